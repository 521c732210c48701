#!lua flags=allow-oom
-- purpose: appends records to the audit stream if nobody else appended meanwhile (compare-and-set on the chain's head);
--   what falls out at the old end is remembered as the anchor, so that the rest can still be verified. Works when Redis
--   is out of memory, so that a token can always be revoked, and its revocation recorded
-- keys: audit, auditHead
-- argv: seq, hash, entriesMax, fields, valueOfEntry...
-- reply: `{1, seq, hash}` appended, `{0, seq, hash}` the head is another one; both with the head as it is now
-- writes: entries `<seq>-0` of the stream, each with the named fields; `seq`, `hash`, `anchorSeq`, `anchorHash` of the
--   head; cuts the stream to entriesMax
-- complexity: O(entries)
-- cluster: one slot, {admin}

local head = redis.call('HMGET', KEYS[2], 'seq', 'hash')
local seq, hash = head[1], head[2]
if not seq then
  -- A head that was lost goes on from the last record; an empty stream begins.
  seq, hash = '0', ''
  local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
  if last then
    seq = string.match(last[1], '^%d+')
    for i = 1, #last[2], 2 do
      if last[2][i] == 'hash' then hash = last[2][i + 1] end
    end
  end
end
if seq ~= ARGV[1] or hash ~= ARGV[2] then return {0, seq, hash} end

local names = {}
for name in string.gmatch(ARGV[4], '[^,]+') do names[#names + 1] = name end
local at = 5
local next = tonumber(seq)
while at <= #ARGV do
  local entry = {}
  for i = 1, #names do
    entry[2 * i - 1] = names[i]
    entry[2 * i] = ARGV[at]
    if names[i] == 'hash' then hash = ARGV[at] end
    at = at + 1
  end
  next = next + 1
  redis.call('XADD', KEYS[1], string.format('%d-0', next), unpack(entry))
end
seq = string.format('%d', next)
redis.call('HSET', KEYS[2], 'seq', seq, 'hash', hash)

local cut = next - tonumber(ARGV[3])
if cut > 0 then
  local last = redis.call('XRANGE', KEYS[1], string.format('%d-0', cut), string.format('%d-0', cut))[1]
  if last then
    for i = 1, #last[2], 2 do
      if last[2][i] == 'hash' then
        redis.call('HSET', KEYS[2], 'anchorSeq', string.format('%d', cut), 'anchorHash', last[2][i + 1])
      end
    end
    redis.call('XTRIM', KEYS[1], 'MINID', string.format('%d-0', cut + 1))
  end
end
return {1, seq, hash}
