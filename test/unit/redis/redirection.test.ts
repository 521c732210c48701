import { expect, test } from 'vitest';
import { slotOf } from '../../../src/redis/cluster-nodes.js';
import { allShards, keys, shardNumberOf, shardOf } from '../../../src/redis/keys.js';
import { redirectionIn } from '../../../src/redis/redirection.js';

function replyError(message: string): Error {
  return Object.assign(new Error(message), { name: 'ReplyError' });
}

test.each([
  ['MOVED 3999 10.0.0.2:6381', { kind: 'moved', slot: 3999, node: '10.0.0.2:6381' }],
  ['ASK 3999 redis-2.example.com:6381', { kind: 'ask', slot: 3999, node: 'redis-2.example.com:6381' }],
  // cluster-preferred-endpoint-type unknown-endpoint: the host is the one that answered.
  ['MOVED 3999 :6381', { kind: 'moved', slot: 3999, node: '10.0.0.1:6381' }],
  ['TRYAGAIN Multiple keys request during rehashing of slot', { kind: 'try-again' }],
  ['CLUSTERDOWN The cluster is down', undefined],
  ['MOVED', undefined],
])('%s is read as %o', (message, redirection) => {
  expect(redirectionIn(replyError(message), '10.0.0.1:6379')).toEqual(redirection);
});

test('an error that is not the word of a node redirects nobody', () => {
  expect(redirectionIn(new Error('MOVED 3999 10.0.0.2:6381'), '10.0.0.1:6379')).toBeUndefined();
});

test('the slot of a key is that of its hash tag, as the Redis Cluster specification has it', () => {
  expect(slotOf('123456789')).toBe(0x31c3);
  expect(slotOf('foo{bar}{zap}')).toBe(slotOf('bar'));
  const slots = allShards.map((shard) => slotOf(keys.meta(shard)));
  expect(new Set(slots).size).toBe(64);
});

test('a key leads back to its shard', () => {
  for (const slug of ['acme', 'shop-1', 'store-2']) {
    expect(allShards[shardNumberOf(keys.tenant(slug))]).toBe(shardOf(slug));
    expect(slotOf(keys.tenant(slug))).toBe(slotOf(keys.meta(shardOf(slug))));
  }
});
