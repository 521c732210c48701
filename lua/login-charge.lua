#!lua
-- purpose: counts an attempt to log in before the password is looked at, unless a limit is reached. From an address that
--   the account was used from before only attempts from there count: nobody elsewhere can lock its holder out
-- keys: pair, address, account, known
-- argv: place, nowMs, pairMax, pairWindowMs, addressMax, addressWindowMs, accountMax, accountWindowMs
-- reply: 0 counted, go on; else ms until it may be tried again, and nothing was counted
-- writes: the three counters, each expires with its window
-- complexity: O(log(16))
-- cluster: one slot, {admin}

local known = tonumber(redis.call('ZSCORE', KEYS[4], ARGV[1]) or '0') > tonumber(ARGV[2])
local counted = known and 1 or 3
local wait = 0
for i = 1, counted do
  if tonumber(redis.call('GET', KEYS[i]) or '0') >= tonumber(ARGV[1 + 2 * i]) then
    wait = math.max(wait, redis.call('PTTL', KEYS[i]), 1)
  end
end
if wait > 0 then return wait end
for i = 1, counted do
  if redis.call('INCR', KEYS[i]) == 1 then redis.call('PEXPIRE', KEYS[i], ARGV[2 + 2 * i]) end
end
return 0
