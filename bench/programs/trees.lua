-- trees.lua PERCENT - trees of tables, made and walked, and a table of strings.
local percent = tonumber(arg[1])

local function make(depth)
    if depth == 0 then
        return {}
    end
    return {make(depth - 1), make(depth - 1)}
end

local function count(tree)
    if not tree[1] then
        return 1
    end
    return 1 + count(tree[1]) + count(tree[2])
end

local long_lived = make(14)
for round = 1, 3 * percent do
    assert(count(make(11)) == 4095)
    local words = {}
    for i = 1, 2000 do
        words[i] = "word " .. round .. "/" .. i
    end
    assert(#table.concat(words, " ") > 2000)
end
assert(count(long_lived) == 32767)
