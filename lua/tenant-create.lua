#!lua
-- purpose: creates a tenant whose slug is free, above the version of any tenant that had a slug of this shard before
-- keys: meta, tenant
-- argv: tenantVersion, version, record, limits, maxTokens, channel, message
-- reply: 1 created; 0 the slug is taken; -1 this Redis is not initialised; -2 `tenantVersion` has moved, read it again
-- writes: the tenant's hash; announces `message` on `channel`
-- complexity: O(1)
-- cluster: one slot, the tenant's shard

if redis.call('HEXISTS', KEYS[1], 'installation') == 0 then return -1 end
if (redis.call('HGET', KEYS[1], 'tenantVersion') or '0') ~= ARGV[1] then return -2 end
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
redis.call('HSET', KEYS[2], 'version', ARGV[2], 'record', ARGV[3], 'limits', ARGV[4], 'maxTokens', ARGV[5], 'state', 'active')
redis.call('PUBLISH', ARGV[6], ARGV[7])
return 1
