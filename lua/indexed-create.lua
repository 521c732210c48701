#!lua
-- purpose: creates a record that stands in an index, if its name is free and the index has a place left
-- keys: index, entity
-- argv: member, score, placesMax, ttlMs, record
-- reply: 1 created; 0 the name is taken; -1 no place is left
-- writes: `version` 1 and `record` of the hash, which expires after ttlMs unless that is 0; its member of the index
-- complexity: O(log(members of the index))
-- cluster: one slot, {admin}

if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
-- A member whose hash has expired holds no place: its score is the time at which it ends.
if ARGV[4] ~= '0' then redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', tonumber(ARGV[2]) - tonumber(ARGV[4])) end
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) then return -1 end
redis.call('HSET', KEYS[2], 'version', 1, 'record', ARGV[5])
if ARGV[4] ~= '0' then redis.call('PEXPIRE', KEYS[2], ARGV[4]) end
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
if ARGV[4] ~= '0' and redis.call('PTTL', KEYS[1]) < tonumber(ARGV[4]) then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
return 1
