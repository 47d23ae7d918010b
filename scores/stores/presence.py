"""What the processes of the service tell of themselves: one hash for all, so that a reader need not look for keys."""

from __future__ import annotations

from .redis import guarded, run_script

KEY = "leaderboard:processes"

# KEYS: the hash. ARGV: the name of a process, what it tells, and for how many seconds to believe it. The clock is that
# of Redis, as hosts differ.
TELL = """
local words = redis.call('TIME')[1] + ARGV[3] .. ' ' .. ARGV[2]
if type(redis.pcall('HSET', KEYS[1], ARGV[1], words)) == 'table' then  -- another program made it another type
    redis.call('DEL', KEYS[1])
    redis.call('HSET', KEYS[1], ARGV[1], words)
end
redis.call('EXPIRE', KEYS[1], ARGV[3])
return {}
"""
ALL = """
local now, told = tonumber(redis.call('TIME')[1]), {}
local rows = redis.pcall('HGETALL', KEYS[1])
if rows.err then return {} end
for i = 1, #rows, 2 do
    local until_s, words = string.match(rows[i + 1], '^(%d+) (.*)$')
    if until_s and tonumber(until_s) > now and tonumber(until_s) < now + 60 then
        told[#told + 1] = words
    else
        redis.call('HDEL', KEYS[1], rows[i])
    end
end
return told
"""


def tell(name: str, words: str, *, for_s: int) -> None:
    """Publish `words` of the process `name` for so many seconds. Raises `RedisAway`."""
    guarded(lambda: run_script(TELL, keys=[KEY], args=[name, words, for_s]))


def told() -> list[str]:
    """What all processes have published lately. Raises `RedisAway`."""
    replies: list[bytes] = guarded(lambda: run_script(ALL, keys=[KEY], args=[]))
    return [reply.decode(errors="replace") for reply in replies]
