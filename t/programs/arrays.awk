# Associative arrays of strings; a digest is printed and appended.
function pseudo_random(limit) {
    state = (state * 69069 + 1) % 4294967296
    return int(state / 256) % limit
}
BEGIN {
    state = 12345
    if (!rounds) rounds = 28
    for (round = 1; round <= rounds; round++) {
        for (i = 0; i < 60000; i++) {
            key = "key" pseudo_random(50000)
            table[key] = substr(table[key], 1, 60) "," pseudo_random(1000000)
            if (length(table[key]) > 50) delete table["key" pseudo_random(50000)]
            digest = (digest * 31 + length(table[key]) + index(table[key], "7")) % 1000000007
        }
        print round, digest >> "rounds.log"
        fflush("rounds.log")
        print round, length(table), digest
        fflush()
    }
}
