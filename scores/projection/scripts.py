"""The Lua scripts of the copy. Each changes set and state together and can be repeated: totals are absolute.

KEYS[1] is the ZSET and KEYS[2] the hash with its state, of the same board; ARGV[1] is the origin of the caller's log.

The hash has `origin`, `seq`, `members`, and `mark`: the mark of event `seq`, as "seq:mark". Two logs with the same origin
and seq are still two if their marks differ.

A mark with another seq says that somebody moved `seq` alone: another program, or a process of version 0.1, which knows no
marks and has moved the set as well. Nobody can tell which, so the copy is at the lower of the two, and may reach the
higher: it is not read until the events in between have been applied, perhaps once more. A copy without a mark is at event
0.
"""

from __future__ import annotations

# Checks that the copy is intact and belongs to the caller's log; every script below starts with it. `pcall` on a key of
# another type returns an error table, which counts as a hash without a state or a set without a size.
_CHECK = """
local state = redis.pcall('HMGET', KEYS[2], 'origin', 'seq', 'members', 'mark')
if state.err then state = {false, false, false, false} end
local size = tonumber(redis.pcall('ZCARD', KEYS[1])) or -1
-- To Lua, 'nan', '0x14' and '2e1' are numbers too.
local function is_count(text)
    return text and (text == '0' or #text <= 16 and string.find(text, '^[1-9]%d*$'))
end
local function fault()
    if not state[1] or not is_count(state[2]) or not is_count(state[3]) then return 'missing' end
    if state[1] ~= ARGV[1] then return 'foreign' end
    if tonumber(state[3]) ~= size then return 'damaged' end
end
local marked, mark = string.match(state[4] or '', '^(%d+):(%d*)$')
if not is_count(marked) or #mark > 18 then marked, mark = '0', '' end
-- The event that the copy is at, and the newest one that its set may contain.
local at, reach = 0, 0
if is_count(state[2]) then
    at = math.min(tonumber(state[2]), tonumber(marked))
    reach = math.max(tonumber(state[2]), tonumber(marked))
end
if at ~= tonumber(marked) then mark = '' end  -- of event `at`; '' if it is not known
local function is_other(of_event)
    return mark ~= '' and of_event ~= '' and mark ~= of_event
end
"""

# ARGV: origin, first, last, the mark of the event before the first and that of the last, then pairs of member and total;
# an empty total removes the member.
APPLY = (
    _CHECK
    + """
local wrong = fault()
if wrong then return {wrong} end
local first, last = tonumber(ARGV[2]), tonumber(ARGV[3])
if at == last and is_other(ARGV[5]) then return {'diverged'} end
if at >= last then return {'done'} end
if at ~= first - 1 then return {'behind'} end
if reach > last then return {'behind'} end
if is_other(ARGV[4]) then return {'diverged'} end
local add, remove = {}, {}
local function flush(command, list)
    if #list > 0 then redis.call(command, KEYS[1], unpack(list)) end
end
for i = 6, #ARGV, 2 do
    if ARGV[i + 1] == '' then
        remove[#remove + 1] = ARGV[i]
    else
        add[#add + 1] = ARGV[i + 1]
        add[#add + 1] = ARGV[i]
    end
    if #add >= 2000 then flush('ZADD', add) add = {} end
    if #remove >= 2000 then flush('ZREM', remove) remove = {} end
end
flush('ZADD', add)
flush('ZREM', remove)
local now = ARGV[3] .. ':' .. ARGV[5]
redis.call('HSET', KEYS[2], 'seq', ARGV[3], 'members', redis.call('ZCARD', KEYS[1]), 'mark', now)
return {'moved'}
"""
)

# ARGV: origin, lowest acceptable seq, then three per question: 'page' offset stop, 'standing' member '', or 'place' member
# ''.
READ = (
    _CHECK
    + """
local wrong = fault()
if wrong then return {wrong} end
if at ~= reach then return {'behind'} end
if at < tonumber(ARGV[2]) then return {'behind'} end
local answers = {}
local function rank(score)
    return redis.call('ZCOUNT', KEYS[1], '(' .. score, '+inf') + 1
end
for i = 3, #ARGV, 3 do
    if ARGV[i] == 'page' then
        local rows = redis.call('ZREVRANGE', KEYS[1], ARGV[i + 1], ARGV[i + 2], 'WITHSCORES')
        local first = 1
        if ARGV[i + 1] ~= '0' and #rows > 0 then first = rank(rows[2]) end
        answers[#answers + 1] = {first, rows}
    else
        local score = redis.call('ZSCORE', KEYS[1], ARGV[i + 1])
        answers[#answers + 1] = score and {rank(score), score} or {}
        if score and ARGV[i] == 'place' then answers[#answers][3] = redis.call('ZREVRANK', KEYS[1], ARGV[i + 1]) end
    end
end
return {'whole', state[2], state[3], answers}
"""
)

# KEYS[3] is the side key. ARGV: origin, seq, members, force, mark. Without force it does not replace an intact copy that is
# at the same event or later, so the slower of two simultaneous rebuilds does no harm.
SWAP = (
    _CHECK
    + """
if ARGV[4] ~= '1' and not fault() and at == reach and at >= tonumber(ARGV[2]) then
    redis.call('DEL', KEYS[3])
    return {'done'}
end
if redis.call('ZCARD', KEYS[3]) ~= tonumber(ARGV[3]) then return {'damaged'} end
redis.call('DEL', KEYS[2])
redis.call('UNLINK', KEYS[1])  -- frees it in the background: RENAME over a million members would take half a second
if ARGV[3] ~= '0' then
    redis.call('RENAME', KEYS[3], KEYS[1])
    redis.call('PERSIST', KEYS[1])
end
redis.call('HSET', KEYS[2], 'origin', ARGV[1], 'seq', ARGV[2], 'members', ARGV[3], 'mark', ARGV[2] .. ':' .. ARGV[5])
return {'moved'}
"""
)

# ARGV: origin, seq, then pairs of member and total. Repairs a copy at event `seq` only, so it cannot overwrite a newer
# total with an older one.
MEND = (
    _CHECK
    + """
local wrong = fault()
if wrong then return {wrong} end
if at ~= reach or state[2] ~= ARGV[2] then return {'behind'} end
local mended = 0
for i = 3, #ARGV, 2 do
    local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
    if ARGV[i + 1] == '' then
        mended = mended + redis.call('ZREM', KEYS[1], ARGV[i])
    elseif not score or tonumber(score) ~= tonumber(ARGV[i + 1]) then
        redis.call('ZADD', KEYS[1], ARGV[i + 1], ARGV[i])
        mended = mended + 1
    end
end
return {'moved', mended}
"""
)

# ARGV: members.
TOTALS = (
    _CHECK
    + """
local scores = redis.pcall('ZMSCORE', KEYS[1], unpack(ARGV))
if scores.err then  -- not a sorted set
    for i = 1, #ARGV do scores[i] = false end
end
return {state[1], at, scores}
"""
)

# A state that another program wrote is no state.
STATE = (
    _CHECK
    + """
if fault() == 'missing' then return {} end
return {state[1], at, state[3], size, mark, reach}
"""
)

# For a text that people read: a key of another type has none.
GET = """
local text = redis.pcall('GET', KEYS[1])
return {type(text) == 'string' and text or false}
"""
