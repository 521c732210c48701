#!lua
-- purpose: writes the record of a tenant or token from a backup where there is none; what is there stays
-- keys: record, index...
-- argv: member, score, fieldAndValue...
-- reply: 1 written; 0 there is one already
-- writes: the hash, and `member` in the index where one is given
-- complexity: O(log(tokens of the tenant))
-- cluster: one slot, the tenant's shard

if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
if KEYS[2] then redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1]) end
return 1
