#!lua flags=allow-oom
-- purpose: deletes a tenant that has no tokens; its version is kept, so that no sidecar takes a later tenant of the
--   same slug for the one it remembers
-- keys: meta, tenant, tenantTokens
-- argv: channel, message
-- reply: 1 deleted; 0 there is no such tenant; -n it still has n tokens
-- writes: deletes the tenant's hash, raises `tenantVersion` in meta; announces `message` on `channel`
-- complexity: O(1)
-- cluster: one slot, the tenant's shard

local version = tonumber(redis.call('HGET', KEYS[2], 'version') or '0')
if version == 0 then return 0 end
local tokens = redis.call('ZCARD', KEYS[3])
if tokens > 0 then return -tokens end
if version > tonumber(redis.call('HGET', KEYS[1], 'tenantVersion') or '0') then
  redis.call('HSET', KEYS[1], 'tenantVersion', version)
end
redis.call('DEL', KEYS[2])
redis.call('PUBLISH', ARGV[1], ARGV[2])
return 1
