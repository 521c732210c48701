#!lua
-- purpose: creates a token if its tenant is active and has a place left; two who race for the last place: one wins
-- keys: tenant, tenantTokens, token
-- argv: id, createdAt, record, limits, channel, message
-- reply: 1 created; 0 there is no such tenant; -1 the tenant is being deleted; -2 no place is left; -3 the id is taken
-- writes: the token's hash, its id in the tenant's index; announces `message` on `channel`
-- complexity: O(log(tokens of the tenant))
-- cluster: one slot, the tenant's shard

local tenant = redis.call('HMGET', KEYS[1], 'state', 'maxTokens')
if not tenant[1] then return 0 end
if tenant[1] ~= 'active' then return -1 end
if redis.call('ZCARD', KEYS[2]) >= tonumber(tenant[2]) then return -2 end
if redis.call('EXISTS', KEYS[3]) == 1 then return -3 end
redis.call('HSET', KEYS[3], 'version', 1, 'record', ARGV[3], 'limits', ARGV[4])
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
redis.call('PUBLISH', ARGV[5], ARGV[6])
return 1
