#!lua flags=allow-oom
-- purpose: ends a claim on the SHA-256 of a foreign token, if it is still held by `id`: keeps it for good or gives it back
-- keys: foreign
-- argv: id, action
-- reply: 1 done; 0 another token holds it, or nobody
-- writes: `keep` takes the expiry off the mapping, `release` deletes it
-- complexity: O(1)
-- cluster: one slot, the shard of the hash

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == 'keep' then
  redis.call('PERSIST', KEYS[1])
else
  redis.call('DEL', KEYS[1])
end
return 1
