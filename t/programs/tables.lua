-- Tables, strings and closures made and dropped; a running digest is printed and appended.
local state = 42
local function random(limit)
    state = (state * 6364136223846793005 + 1442695040888963407) & 0x7fffffffffffffff
    return (state >> 20) % limit + 1
end

local function mix(digest, text)
    for i = 1, #text, 7 do
        digest = (digest * 31 + text:byte(i)) & 0xffffffffffff
    end
    return digest
end

local nodes, digest = {}, 7
for i = 1, 60000 do
    nodes[i] = { name = "node " .. i, links = {}, weight = i }
end
local log = assert(io.open("rounds.log", "a"))
for round = 1, tonumber(arg[1] or 45) do
    for _ = 1, 40000 do
        local a, b = nodes[random(#nodes)], nodes[random(#nodes)]
        a.links[#a.links + 1] = b
        if #a.links > 6 then
            a.links = { a.links[random(6)] }
            a.name = a.name:sub(-20) .. "/" .. b.weight
        end
        a.weight = (a.weight + b.weight) % 1000003
        local i = random(#nodes)
        digest = mix(digest, nodes[i].name) ~ a.weight
    end
    log:write(round, " ", digest, "\n")
    log:flush()
    print(round, digest)
end
