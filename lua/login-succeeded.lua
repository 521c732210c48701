#!lua
-- purpose: takes the count of an attempt back that turned out to be right, and remembers where it came from
-- keys: pair, address, account, known
-- argv: place, nowMs, knownMs, placesMax
-- reply: 1
-- writes: deletes the pair's counter, lowers the others; the place in the account's known ones, which expire
-- complexity: O(log(placesMax))
-- cluster: one slot, {admin}

redis.call('DEL', KEYS[1])
-- From a known place the others were not counted.
local known = tonumber(redis.call('ZSCORE', KEYS[4], ARGV[1]) or '0') > tonumber(ARGV[2])
for i = 2, known and 1 or 3 do
  if tonumber(redis.call('GET', KEYS[i]) or '0') > 0 then redis.call('DECR', KEYS[i]) end
end
redis.call('ZADD', KEYS[4], tonumber(ARGV[2]) + tonumber(ARGV[3]), ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[4], 0, -tonumber(ARGV[4]) - 1)
redis.call('PEXPIRE', KEYS[4], ARGV[3])
return 1
