#!lua flags=allow-oom
-- purpose: deletes a token and frees its place
-- keys: tenantTokens, token
-- argv: id, channel, message
-- reply: 1 deleted; 2 the same, and sidecars may hold leases of it, which end by themselves; 0 there is no such token
--   (its id is taken out of the index all the same)
-- writes: deletes the token's hash and its id in the tenant's index; announces `message` on `channel`
-- complexity: O(log(tokens of the tenant))
-- cluster: one slot, the tenant's shard

redis.call('ZREM', KEYS[1], ARGV[1])
local is_leased = redis.call('HEXISTS', KEYS[2], 'leased') == 1
local deleted = redis.call('DEL', KEYS[2])
redis.call('PUBLISH', ARGV[2], ARGV[3])
return deleted == 1 and is_leased and 2 or deleted
