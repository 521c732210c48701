#!lua flags=allow-oom
-- purpose: replaces the record of a token or tenant if nobody else changed it meanwhile (compare-and-set on `version`);
--   its counters stay, and it works when Redis is out of memory, so that a token can always be revoked
-- keys: entity
-- argv: expected, channel, message, fieldAndValue...
-- reply: 1 replaced, `version` is expected + 1; 2 the same, and sidecars may hold leases of it, which end by themselves;
--   0 the version is another one, read again; -1 it does not exist
-- writes: the fields given and `version` of the hash; announces `message` on `channel`
-- complexity: O(number of fields), at most 4
-- cluster: one slot, the shard of the token or tenant

local before = redis.call('HMGET', KEYS[1], 'version', 'leased')
local version = before[1]
if not version then return -1 end
if version ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'version', tonumber(version) + 1, unpack(ARGV, 4))
redis.call('PUBLISH', ARGV[2], ARGV[3])
return before[2] and 2 or 1
