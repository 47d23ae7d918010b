"""The Lua scripts of the boards' copies. Each changes sets and state together.

KEYS[1] is the state, one hash for all boards of a log, so that one script moves them all:

    origin          the log
    writing         set while a script writes: left behind, it says that one failed half way, and nothing can be trusted
    seq:ID          the event that the sets of a board contain; without it the board is not in Redis
    from:ID         its first period that is in Redis; older ones have left
    size:ID:PERIOD  how large the set of a period must be; without it, empty

A set has the key of a member as its score, so the order is the same for all boards: ZREVRANGE. Where ties go to who was
first, a member is 7 bytes and the user id: 2^53 - 1 less the event that reached the score, so that of equal scores the
earliest comes first; and a hash beside the set has the 7 bytes by user id.

Moves are differences: applied twice, a sum would be wrong. So a script moves only boards that are at the very event before,
and it looks at every key before it writes the first time: an error half way is all that could break it.
"""

from __future__ import annotations

_CHECK = """
local function is_count(text)
    return text and (text == '0' or #text <= 16 and string.find(text, '^[1-9]%d*$'))
end
local head = redis.pcall('HMGET', KEYS[1], 'origin', 'writing')
if head.err then return {'damaged'} end
if head[2] then return {'damaged'} end
if not head[1] then return {'missing'} end
if head[1] ~= ARGV[1] then return {'foreign'} end
-- Whether set and hash of a period are as large as they should be.
local function is_whole(set, hash, size, is_first)
    local members = redis.pcall('ZCARD', set)
    if type(members) ~= 'number' or tostring(members) ~= (size or '0') then return false end
    if not is_first then return true end
    local users = redis.pcall('HLEN', hash)
    return type(users) == 'number' and users == members
end
"""

# KEYS: state, then set and hash of each period. ARGV: origin, before, last, how many keys, lists, moves, sets; then for each
# period of KEYS: board, period, '1' if first; for each list: the number of rows, and of each row user, key, seq; for each
# move: the number of its period in KEYS, fold, the number of its list; for each set: the number of its period in KEYS,
# user, and key and seq, empty for who is off the board; then the boards.
#
# Answers: moved, the boards that were behind, the boards that are damaged. All others are at `last` or later.
APPLY = (
    _CHECK
    + """
local before, last = ARGV[2], ARGV[3]
local periods, lists, moves, sets = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local at = 8
local places = {}
for p = 1, periods do
    places[p] = {board = ARGV[at], period = ARGV[at + 1], is_first = ARGV[at + 2] == '1', set = KEYS[2 * p], hash = KEYS[2 * p + 1]}
    at = at + 3
end
local rows = {}
for l = 1, lists do
    rows[l] = {at = at + 1, count = tonumber(ARGV[at])}
    at = at + 1 + 3 * rows[l].count
end
local moves_at = at
local sets_at = moves_at + 3 * moves
local state, ready, behind, damaged = {}, {}, {}, {}
for b = sets_at + 4 * sets, #ARGV do
    local board = ARGV[b]
    local fields = redis.call('HMGET', KEYS[1], 'seq:' .. board, 'from:' .. board)
    if fields[1] == before and is_count(fields[2]) then
        ready[board] = tonumber(fields[2])
    elseif not is_count(fields[1]) or tonumber(fields[1]) < tonumber(last) then
        behind[#behind + 1] = board
    end
end
-- Everything that could fail is looked at before the first write.
for p = 1, periods do
    local place = places[p]
    if ready[place.board] then
        place.field = 'size:' .. place.board .. ':' .. place.period
        local size = redis.call('HGET', KEYS[1], place.field)
        if not is_whole(place.set, place.hash, size, place.is_first) then
            damaged[#damaged + 1] = place.board
            ready[place.board] = nil
        end
    end
end
if not next(ready) then return {'done', behind, damaged} end
redis.call('HSET', KEYS[1], 'writing', last)
local TOP, MOST = 9007199254740991, 9007199254740991
local function tie(seq)
    return struct.pack('>I7', TOP - seq)
end
local CHUNK = 1000
local function flush(command, key, list)
    for i = 1, #list, 2 * CHUNK do
        redis.call(command, key, unpack(list, i, math.min(#list, i + 2 * CHUNK - 1)))
    end
end
local function sum(old, new)
    return math.max(-MOST, math.min(MOST, old + new))
end
for m = 1, moves do
    local q = moves_at + 3 * (m - 1)
    local place, fold, list = places[tonumber(ARGV[q])], ARGV[q + 1], rows[tonumber(ARGV[q + 2])]
    local from = ready[place.board]
    if from and tonumber(place.period) >= from then
        for start = 1, list.count, CHUNK do
            local stop = math.min(list.count, start + CHUNK - 1)
            local users, ties, members = {}, {}, {}
            for i = start, stop do users[#users + 1] = ARGV[list.at + 3 * (i - 1)] end
            if place.is_first then ties = redis.call('HMGET', place.hash, unpack(users)) end
            for i = 1, #users do members[i] = (ties[i] or '') .. users[i] end
            local scores = redis.call('ZMSCORE', place.set, unpack(members))
            local add, remove, hash = {}, {}, {}
            for i = 1, #users do
                local r = list.at + 3 * (start + i - 2)
                local key, seq = tonumber(ARGV[r + 1]), tonumber(ARGV[r + 2])
                local old = scores[i] and tonumber(scores[i])
                if old and fold == 'sum' then key = sum(old, key) end
                if not old or fold ~= 'best' or key > old then
                    local member = users[i]
                    if place.is_first then
                        local prefix = tie(seq)
                        member = prefix .. member
                        if old then remove[#remove + 1] = members[i] end
                        hash[#hash + 1] = users[i]
                        hash[#hash + 1] = prefix
                    end
                    add[#add + 1] = key
                    add[#add + 1] = member
                end
            end
            flush('ZREM', place.set, remove)
            flush('ZADD', place.set, add)
            flush('HSET', place.hash, hash)
        end
    end
end
for s = 1, sets do
    local q = sets_at + 4 * (s - 1)
    local place, user, key, seq = places[tonumber(ARGV[q])], ARGV[q + 1], ARGV[q + 2], ARGV[q + 3]
    local from = ready[place.board]
    if from and tonumber(place.period) >= from then
        if place.is_first then
            local old = redis.call('HGET', place.hash, user)
            if old then
                redis.call('ZREM', place.set, old .. user)
                redis.call('HDEL', place.hash, user)
            end
            if key ~= '' then
                local prefix = tie(tonumber(seq))
                redis.call('ZADD', place.set, key, prefix .. user)
                redis.call('HSET', place.hash, user, prefix)
            end
        elseif key == '' then
            redis.call('ZREM', place.set, user)
        else
            redis.call('ZADD', place.set, key, user)
        end
    end
end
local fields = {}
for board in pairs(ready) do
    fields[#fields + 1] = 'seq:' .. board
    fields[#fields + 1] = last
end
for p = 1, periods do
    local place = places[p]
    if ready[place.board] and tonumber(place.period) >= ready[place.board] then
        fields[#fields + 1] = place.field
        fields[#fields + 1] = redis.call('ZCARD', place.set)
    end
end
flush('HSET', KEYS[1], fields)
redis.call('HDEL', KEYS[1], 'writing')
return {'moved', behind, damaged}
"""
)

# KEYS: state, then set and hash of each question. ARGV: origin, then of each question: board, period, '1' if first, 'page'
# offset stop, or 'place' user ''. Answers to each: whole, seq, size, rank of the first row, rows; or why not.
READ = (
    _CHECK
    + """
local answers = {}
for i = 2, #ARGV, 6 do
    local n = (i - 2) / 6 + 1
    local board, period, is_first = ARGV[i], ARGV[i + 1], ARGV[i + 2] == '1'
    local set, hash = KEYS[2 * n], KEYS[2 * n + 1]
    local state = redis.call('HMGET', KEYS[1], 'seq:' .. board, 'from:' .. board, 'size:' .. board .. ':' .. period)
    local answer
    if not is_count(state[1]) or not is_count(state[2]) or tonumber(period) < tonumber(state[2]) then
        answer = {'absent'}
    elseif not is_whole(set, hash, state[3], is_first) then
        answer = {'damaged'}
    elseif ARGV[i + 3] == 'page' then
        local rows = redis.call('ZREVRANGE', set, ARGV[i + 4], ARGV[i + 5], 'WITHSCORES')
        local rank = 1
        if ARGV[i + 4] ~= '0' and #rows > 0 then rank = redis.call('ZCOUNT', set, '(' .. rows[2], '+inf') + 1 end
        answer = {'whole', state[1], state[3] or '0', rank, rows}
    else
        local member = ARGV[i + 4]
        if is_first then
            local prefix = redis.call('HGET', hash, member)
            member = prefix and prefix .. member
        end
        local score = member and redis.call('ZSCORE', set, member)
        if score then
            local rank = redis.call('ZCOUNT', set, '(' .. score, '+inf') + 1
            answer = {'whole', state[1], state[3] or '0', rank, {score, redis.call('ZREVRANK', set, member)}}
        else
            answer = {'whole', state[1], state[3] or '0', 0, {}}
        end
    end
    answers[n] = answer
end
return {'whole', answers}
"""
)

# What users have in a period, all as of one event. KEYS: state, set, hash. ARGV: origin, board, period, '1' if first, then the
# users. Answers: whole, seq, then of each user score and prefix, empty for who is not there; or absent.
ROWS = (
    _CHECK
    + """
local board, period, is_first = ARGV[2], ARGV[3], ARGV[4] == '1'
local state = redis.call('HMGET', KEYS[1], 'seq:' .. board, 'from:' .. board, 'size:' .. board .. ':' .. period)
if not is_count(state[1]) or not is_count(state[2]) or tonumber(period) < tonumber(state[2]) then return {'absent'} end
if not is_whole(KEYS[2], KEYS[3], state[3], is_first) then return {'damaged'} end
local rows = {}
for i = 5, #ARGV do
    local prefix = is_first and redis.call('HGET', KEYS[3], ARGV[i]) or ''
    rows[#rows + 1] = redis.call('ZSCORE', KEYS[2], prefix .. ARGV[i]) or ''
    rows[#rows + 1] = prefix
end
return {'whole', state[1], rows}
"""
)

# The state as it is, in whatever condition. ARGV: origin.
STATE = """
local state = redis.pcall('HGETALL', KEYS[1])
if state.err then return {'damaged', {}} end
return {'whole', state}
"""

# Begin a state for the log, if there is none or one of another log, or one that a script left half written. KEYS: state, then
# whatever sets and hashes it named. ARGV: origin.
BEGIN = """
local head = redis.pcall('HMGET', KEYS[1], 'origin', 'writing')
if not head.err and head[1] == ARGV[1] and not head[2] then return {'done'} end
for i = 1, #KEYS do redis.call('UNLINK', KEYS[i]) end
redis.call('HSET', KEYS[1], 'origin', ARGV[1])
return {'moved'}
"""

# Put a board in place of what there is of it. KEYS: state, then for each period set and hash, their side keys. then the keys
# that go. ARGV: origin, board, seq, from, how many periods; for each: period, size, '1' if first; then fields that go. Answers
# raced if there is a period that neither comes nor goes: another process has brought it since, and it would stay as of a
# later event.
SWAP = (
    _CHECK
    + """
local board, seq, from, periods = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local at = 6
for p = 1, periods do
    local k = 2 + 4 * (p - 1)
    local size = tonumber(ARGV[at + 1])
    if redis.call('ZCARD', KEYS[k + 2]) ~= size then return {'damaged'} end
    if ARGV[at + 2] == '1' and redis.call('HLEN', KEYS[k + 3]) ~= size then return {'damaged'} end
    at = at + 3
end
local known, prefix = {}, 'size:' .. board .. ':'
for p = 1, periods do known[prefix .. ARGV[6 + 3 * (p - 1)]] = true end
for i = at, #ARGV do known[ARGV[i]] = true end
local fields = redis.call('HKEYS', KEYS[1])
for i = 1, #fields do
    if string.sub(fields[i], 1, #prefix) == prefix and not known[fields[i]] then return {'raced'} end
end
for i = 2 + 4 * periods, #KEYS do redis.call('UNLINK', KEYS[i]) end
for i = at, #ARGV do redis.call('HDEL', KEYS[1], ARGV[i]) end
at = 6
for p = 1, periods do
    local k = 2 + 4 * (p - 1)
    for part = 0, 1 do
        redis.call('UNLINK', KEYS[k + part])
        if redis.call('EXISTS', KEYS[k + 2 + part]) == 1 then
            redis.call('RENAME', KEYS[k + 2 + part], KEYS[k + part])
            redis.call('PERSIST', KEYS[k + part])
        end
    end
    redis.call('HSET', KEYS[1], 'size:' .. board .. ':' .. ARGV[at], ARGV[at + 1])
    at = at + 3
end
redis.call('HSET', KEYS[1], 'seq:' .. board, seq, 'from:' .. board, from)
return {'moved'}
"""
)

# Let periods of a board leave, or all of it. KEYS: state, then the keys that go. ARGV: origin, board, the new first period or
# '' for all of it, then the fields that go. A process that looked earlier brings no period back: it would be empty.
LEAVE = (
    _CHECK
    + """
if ARGV[3] ~= '' then
    local from = redis.call('HGET', KEYS[1], 'from:' .. ARGV[2])
    if not is_count(from) or tonumber(from) > tonumber(ARGV[3]) then return {'moved'} end
end
for i = 4, #ARGV do redis.call('HDEL', KEYS[1], ARGV[i]) end
if ARGV[3] == '' then
    redis.call('HDEL', KEYS[1], 'seq:' .. ARGV[2], 'from:' .. ARGV[2])
else
    redis.call('HSET', KEYS[1], 'from:' .. ARGV[2], ARGV[3])
end
for i = 2, #KEYS do redis.call('UNLINK', KEYS[i]) end
return {'moved'}
"""
)
