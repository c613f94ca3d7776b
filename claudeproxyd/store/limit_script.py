"""The one step by which limits are counted in Redis: a Lua script, and how it is called.

All time in it is Redis's own, in microseconds, so that daemons whose clocks differ agree on what a rate has refilled;
the windows of budgets are the daemons', who know the time zones. What a daemon used it tells as its own *total*, which
only grows: a command that arrives twice, or whose answer was lost, counts once, and a Redis that lost everything has it
back with the next.

Keys: ``members``, a sorted set of the daemons that live, by when they are taken for dead; and for each counter two
hashes. ``used``: the sum (``used``), of a rate its debt and when that was reckoned (``at``), each daemon's total as
last told, and what a ledger knew of the time before (``base:…``, ``since:…``). ``held``: what each daemon has reserved;
what dead ones had is dropped.
"""

from __future__ import annotations

from hashlib import sha1

#: What is told or asked of one counter, in this order: the limit's amount; of a rate the microseconds in which it
#: refills, else 0; the daemon's name for its figures of this counter; its total; how much of it was not told before;
#: milliseconds that a budget is kept; what is given back (when it begins: all that is held); what is asked for; what a
#: ledger knew, or an empty string, whose, and when.
FIELDS = 11

CLOCK = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
"""

BODY = """
local members, mode, me, lease = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
local function number(value) return string.format('%.6f', value) end

local alive = redis.call('ZSCORE', members, me)
if mode ~= 'begin' and not (alive and tonumber(alive) > now) then
  return redis.error_reply('GONE this daemon was taken for dead')
end
redis.call('ZREMRANGEBYSCORE', members, '-inf', number(now))
redis.call('ZADD', members, number(now + lease), me)
redis.call('PEXPIRE', members, 86400000)
local living = {}
for _, each in ipairs(redis.call('ZRANGE', members, 0, -1)) do living[each] = true end

local asks, fits, answers = mode == 'reserve', true, {}
for place = 2, #KEYS, 2 do
  local used_key, held_key = KEYS[place], KEYS[place + 1]
  local first = 4 + (place - 2) / 2 * FIELDS
  local amount, per = tonumber(ARGV[first]), tonumber(ARGV[first + 1])
  local name, total, step = ARGV[first + 2], tonumber(ARGV[first + 3]), tonumber(ARGV[first + 4])
  local life, back = tonumber(ARGV[first + 5]), tonumber(ARGV[first + 6])
  local base, ledger, since = ARGV[first + 8], ARGV[first + 9], tonumber(ARGV[first + 10])

  local there = redis.call('HMGET', used_key, 'used', 'at', name, 'base:' .. ledger, 'since:' .. ledger)
  local used, at, seen = tonumber(there[1] or 0), tonumber(there[2] or now), there[3]
  local changed = false
  if per > 0 and now > at then
    used = math.max(0, used - (now - at) * amount / per)
  end
  if base ~= '' then
    if per > 0 then
      if not there[1] then
        used, changed = tonumber(base), true
      end
    elseif not there[5] or since < tonumber(there[5]) then
      used, changed = used + base - (there[4] or 0), true
      redis.call('HSET', used_key, 'base:' .. ledger, base, 'since:' .. ledger, number(since))
    end
  end
  local more = step
  if seen then
    more = total - seen
  elseif per == 0 then
    more = total
  end
  if more > 0 or changed or (per > 0 and there[1] and now < at) then
    used = used + math.max(0, more)
    redis.call('HSET', used_key, 'used', number(used), 'at', number(now), name, number(total))
    if per > 0 then
      life = math.ceil((math.max(2, used / amount + 1)) * per / 1000)
    end
    redis.call('PEXPIRE', used_key, string.format('%.0f', life))
  end

  local held, own = 0, 0
  local all = redis.call('HGETALL', held_key)
  for field = 1, #all, 2 do
    if all[field] == name then
      own = tonumber(all[field + 1])
    elseif living[all[field]:match('^[^:]+')] then
      held = held + all[field + 1]
    else
      redis.call('HDEL', held_key, all[field])
    end
  end
  local kept = own - back
  if mode == 'begin' then kept = back end
  if kept == 0 then
    redis.call('HDEL', held_key, name)
  elseif kept ~= own then
    redis.call('HSET', held_key, name, number(kept))
    redis.call('PEXPIRE', held_key, 86400000)
  end
  if amount - used - held - kept < 1 then fits = false end
  answers[#answers + 1] = number(used)
  answers[#answers + 1] = number(held)
end

if asks and fits then
  for place = 2, #KEYS, 2 do
    local first = 4 + (place - 2) / 2 * FIELDS
    local want = tonumber(ARGV[first + 7])
    if want > 0 then
      redis.call('HINCRBYFLOAT', KEYS[place + 1], ARGV[first + 2], number(want))
      redis.call('PEXPIRE', KEYS[place + 1], 86400000)
    end
  end
end
return {fits and 1 or 0, redis.call('ZCARD', members), unpack(answers)}
""".replace("FIELDS", str(FIELDS))

SCRIPT = CLOCK + BODY


def digest_of(script: str) -> str:
    """Return what EVALSHA calls *script* by."""
    return sha1(script.encode(), usedforsecurity=False).hexdigest()
