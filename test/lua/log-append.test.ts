import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { encodeBatch, logAppend, RecordNumbers } from '../../src/accesslog/batch.js';
import type { LogEntry } from '../../src/accesslog/entry.js';
import { bindScript, loadScript, type RunScript } from '../../src/redis/scripts.js';
import { readCalls, readUsage } from '../../src/usage/reader.js';
import { sampleEntry } from '../support/log-entry.js';
import { type RedisServer, startRedis } from '../support/redis.js';

let server: RedisServer;
let redis: Redis;
let run: RunScript;

beforeAll(async () => {
  server = await startRedis();
  redis = server.client();
  run = bindScript(redis, loadScript(logAppend));
});
beforeEach(() => redis.flushall());
afterAll(() => server.stop());

const today = Date.now();
const day = new Date(today).toISOString().slice(0, 10);
const stream = `log:{acme}:${day}`;

function entry(fields: Partial<LogEntry> = {}): LogEntry {
  return sampleEntry({ timeMs: today, ...fields });
}

function append(number: number, entries: readonly LogEntry[], options: { writer?: string; max?: number } = {}) {
  const target = targetOf(number, options.writer ?? 'w', options.max ?? 1_000_000);
  const batch = encodeBatch(entries, [], target);
  return run(batch.keys, batch.args);
}

const recordsOf = new Map<string, RecordNumbers>();
beforeEach(() => recordsOf.clear());

function targetOf(number: number, writer = 'w', streamMaxEntries = 1000) {
  const records = recordsOf.get(writer) ?? new RecordNumbers(writer);
  recordsOf.set(writer, records);
  return { sequenceKey: `tk:logseq:{all}:${writer}`, number, records, retentionDays: 30, streamMaxEntries };
}

function fieldsOf(raw: readonly string[] = []): Record<string, string> {
  const fields: Record<string, string> = {};
  for (let place = 0; place < raw.length; place += 2) {
    fields[raw[place] as string] = raw[place + 1] as string;
  }
  return fields;
}

test('an entry stands in its stream as plain text fields', async () => {
  const path = '/grüße/😀';
  expect(await append(1, [entry({ path, status: 404 })])).toEqual([1, 1, 0]);
  const [first] = await redis.xrange(stream, '-', '+');
  expect(fieldsOf(first?.[1])).toEqual({
    time: new Date(today).toISOString(),
    requestId: 'req-1',
    tenant: 'acme',
    tokenId: 'abcdefghijkl',
    method: 'GET',
    path,
    route: '/api/v1/products',
    status: '404',
    outcome: 'ok',
    durationMs: '1.500',
    upstreamMs: '1.250',
    bytesIn: '0',
    bytesOut: '42',
    ip: '203.0.113.7',
    userAgent: 'curl/8.5.0',
    batch: 'w:1:1',
  });
});

describe('a batch is appended once', () => {
  test('however often and however late its number comes, and each time the same counts are answered', async () => {
    await redis.set(`log:{bad}:${day}`, 'no stream');
    const batch = [entry(), entry({ tenant: 'bad', tokenId: '' })];
    expect(await append(1, batch)).toEqual([1, 1, 1]);
    expect(await append(1, batch)).toEqual([0, 1, 1]);
    expect(await append(2, [entry()])).toEqual([1, 1, 0]);
    expect(await append(1, batch)).toEqual([0, 1, 0]);
    expect(await redis.xlen(stream)).toBe(2);
    expect(await readCalls(redis, 'acme', ['abcdefghijkl'])).toEqual([2]);
  });

  test('numbers of different writers do not meet', async () => {
    await append(1, [entry()], { writer: 'a' });
    await append(1, [entry()], { writer: 'b' });
    expect(await redis.xlen(stream)).toBe(2);
  });

  test('also when many send it at once and the scripts are flushed half way', async () => {
    const clients = Array.from({ length: 8 }, () => bindScript(server.client(), loadScript(logAppend)));
    const calls: Promise<unknown>[] = [];
    for (let number = 1; number <= 20; number += 1) {
      const batch = encodeBatch([entry(), entry()], [], targetOf(number));
      await Promise.all(clients.map((client) => client(batch.keys, batch.args)));
      if (number === 10) calls.push(redis.script('FLUSH'));
    }
    await Promise.all(calls);
    expect(await redis.xlen(stream)).toBe(40);
  });
});

test('expiry: the stream 30 days after its day has ended, the number a day, the usage 400 days', async () => {
  await append(1, [entry(), entry({ timeMs: today - 86_400_000 })]);
  const endOfDay = Date.parse(`${day}T00:00:00Z`) / 1000 + 86_400;
  const yesterday = new Date(today - 86_400_000).toISOString().slice(0, 10);
  expect(await redis.expiretime(stream)).toBe(endOfDay + 30 * 86_400);
  expect(await redis.expiretime(`log:{acme}:${yesterday}`)).toBe(endOfDay + 29 * 86_400);
  expect(await redis.ttl('tk:logseq:{all}:w')).toBeGreaterThan(86_390);
  expect(await redis.ttl('tk:logseq:{all}:w')).toBeLessThanOrEqual(86_400);
  expect(await redis.ttl('tk:recent:{acme}:abcdefghijkl')).toBeGreaterThan(400 * 86_400);
  for (const key of await redis.keys('*')) expect([key, await redis.ttl(key)]).not.toEqual([key, -1]);
});

test('a key that was deleted gets its expiry again when it begins anew, however old its writer is', async () => {
  await append(1, [entry()]);
  for (let number = 2; number <= 4; number += 1) {
    const names = await redis.keys('*');
    await redis.del(...names.filter((name) => !name.startsWith('tk:logwriters') && !name.startsWith('tk:logseq')));
    await append(number, [entry(), entry({ tenant: 'other' })]);
    for (const name of await redis.keys('*')) expect([name, await redis.ttl(name)]).not.toEqual([name, -1]);
  }
});

test('the first batch of a day keeps the whole usage for 400 days more, those after it leave its expiry alone', async () => {
  for (let number = 1; number <= 20; number += 1) await append(number, [entry({ timeMs: today - 86_400_000 })]);
  const usage = [
    'tk:recent:{acme}:abcdefghijkl',
    'tk:usage:{acme}:abcdefghijkl',
    'tk:recent:{acme}',
    'tk:usage:{acme}',
  ];
  for (const key of usage) expect([key, await redis.expire(key, 1000)]).toEqual([key, 1]);
  await append(21, [entry({ timeMs: today - 86_400_000 })]);
  for (const key of usage) expect([key, (await redis.ttl(key)) <= 1000]).toEqual([key, true]);
  await append(22, [entry()]);
  for (const key of usage) expect([key, (await redis.ttl(key)) > 400 * 86_400]).toEqual([key, true]);
});

test('a stream is trimmed to about its cap', async () => {
  for (let number = 1; number <= 20; number += 1) {
    await append(
      number,
      Array.from({ length: 200 }, () => entry()),
      { max: 500 },
    );
  }
  const length = await redis.xlen(stream);
  expect(length).toBeGreaterThanOrEqual(500);
  expect(length).toBeLessThan(700);
});

describe('a key of another type', () => {
  test('in the place of a stream fails alone and is left as it is, without an expiry', async () => {
    const bad = `log:{bad}:${day}`;
    await redis.set(bad, 'no stream');
    const batch = [entry({ tenant: 'bad' }), entry(), entry({ tenant: 'bad' }), entry({ tenant: 'other' })];
    expect(await append(1, batch)).toEqual([1, 2, 2]);
    expect(await redis.get(bad)).toBe('no stream');
    expect(await redis.ttl(bad)).toBe(-1);
    expect([await redis.xlen(stream), await redis.xlen(`log:{other}:${day}`)]).toEqual([1, 1]);
  });

  test.each([
    'tk:recent:{acme}:abcdefghijkl',
    'tk:usage:{acme}:abcdefghijkl',
    `tk:logplaces:{acme}:abcdefghijkl:${day}`,
  ])('in the place of %s hinders no entry, and bounds hold', async (key) => {
    await redis.sadd(key, 'no such thing');
    for (let number = 1; number <= 50; number += 1) expect(await append(number, [entry()])).toEqual([1, 1, 0]);
    expect(await redis.smembers(key)).toEqual(['no such thing']);
    expect(await redis.xlen(stream)).toBe(50);
    if (!key.startsWith('tk:recent')) expect(await redis.strlen('tk:recent:{acme}:abcdefghijkl')).toBeLessThan(700);
  });

  test.each([
    'strange',
    '\x97\xc0\xc0\xc0\xc0\xc0\xc0\xc0',
    '\xdd\xff\xff\xff\xff',
    '\x97\x01\x80\x00\x00\xa0\xa0\x05',
  ])('text in the place of recent usage (%j) hinders no entry, and what is counted after it counts', async (text) => {
    await redis.set('tk:recent:{acme}:abcdefghijkl', Buffer.from(text.padEnd(513, text), 'latin1'));
    for (let number = 1; number <= 20; number += 1) expect(await append(number, [entry()])).toEqual([1, 1, 0]);
    expect(await redis.xlen(stream)).toBe(20);
    // What was in the way went with the first batch, at most with what that counted.
    const [calls] = await readCalls(redis, 'acme', ['abcdefghijkl']);
    expect([19, 20]).toContain(calls);
  });
});

test('the last use of a token never goes back, while its calls add up', async () => {
  await append(1, [entry({ ip: '10.0.0.2' })], { writer: 'a' });
  const told = [];
  for (let number = 1; number <= 30; number += 1) {
    await append(number, [entry({ timeMs: today - 5000, ip: '10.0.0.1' })], { writer: 'b' });
    const { lastUsed, lifetime } = await readUsage(redis, 'acme', 'abcdefghijkl', today);
    told.push([lifetime.calls, lastUsed?.at, lastUsed?.ip]);
  }
  expect(told).toEqual(told.map((_, place) => [place + 2, new Date(today).toISOString(), '10.0.0.2']));
  // Both before and after it was added up.
  expect(await redis.hget('tk:usage:{acme}:abcdefghijkl', 'lastUsedIp')).toBe('10.0.0.2');
});

test('a gap record says how many are missing and is not counted as an entry', async () => {
  const batch = encodeBatch([entry()], [{ tenant: 'acme', dropped: 17, timeMs: today }], targetOf(1));
  expect(await run(batch.keys, batch.args)).toEqual([1, 1, 0]);
  const entries = await redis.xrange(stream, '-', '+');
  expect(entries).toHaveLength(2);
  const time = new Date(today).toISOString();
  expect(fieldsOf(entries[1]?.[1])).toEqual({ time, tenant: 'acme', outcome: 'log-gap', dropped: '17', batch: '' });
  expect(fieldsOf(entries[0]?.[1])['batch']).toBe('w:1:2');
});

test('out of memory refuses the whole batch: nothing of it is there, and it is appended once when there is room', async () => {
  await append(1, [entry()]);
  await redis.config('SET', 'maxmemory', '1');
  await expect(append(2, [entry(), entry({ tenant: 'other' })])).rejects.toThrow(/OOM/);
  expect(await redis.xlen(stream)).toBe(1);
  expect(await redis.exists(`log:{other}:${day}`)).toBe(0);
  await redis.config('SET', 'maxmemory', '0');
  expect(await append(2, [entry(), entry({ tenant: 'other' })])).toEqual([1, 2, 0]);
});
