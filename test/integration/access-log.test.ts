import { once } from 'node:events';
import type { Redis } from 'ioredis';
import { afterEach, describe, expect, test } from 'vitest';
import { type LogEntry } from '../../src/accesslog/entry.js';
import { follow } from '../../src/accesslog/follow.js';
import type { LoggedEntry } from '../../src/accesslog/logged-entry.js';
import { readBackward, readForward } from '../../src/accesslog/reader.js';
import { AccessLog, type AccessLogOptions } from '../../src/accesslog/writer.js';
import { connect } from '../../src/redis/connect.js';
import { keys } from '../../src/redis/keys.js';
import { Metrics } from '../../src/telemetry/metrics.js';
import { readCalls } from '../../src/usage/reader.js';
import { samplesOf } from '../support/exposition.js';
import { startFaultProxy } from '../support/fault-proxy.js';
import { sampleEntry } from '../support/log-entry.js';
import { type RedisServer, startRedis } from '../support/redis.js';
import { until } from '../support/until.js';

const atEnd: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of atEnd.splice(0).toReversed()) await end();
});

const today = Date.now();
const day = new Date(today).toISOString().slice(0, 10);

function entry(fields: Partial<LogEntry> = {}): LogEntry {
  return sampleEntry({ timeMs: today, ...fields });
}

async function redisServer(options: Parameters<typeof startRedis>[0] = {}): Promise<RedisServer> {
  const server = await startRedis(options);
  atEnd.push(() => server.stop());
  return server;
}

async function connection(url: string, commandTimeoutMs?: number): Promise<Redis> {
  const redis = connect({ url, commandTimeoutMs: commandTimeoutMs ?? 0 }, commandTimeoutMs ? 'admission' : 'log');
  atEnd.push(() => redis.disconnect());
  await once(redis, 'ready');
  return redis;
}

function accessLog(
  redis: Redis,
  options: Partial<AccessLogOptions> = {},
): { log: AccessLog; counts: () => Promise<Counts> } {
  const metrics = new Metrics('1');
  const log = new AccessLog({
    redis,
    retentionDays: 30,
    streamMaxEntries: 1_000_000,
    bufferMaxEntries: 50_000,
    flushIntervalMs: 5,
    metrics,
    logger: { info: () => {}, warn: () => {} },
    ...options,
  });
  atEnd.push(() => log.close({ stalledMs: 0, deadlineMs: 0 }));
  return { log, counts: () => countsOf(metrics) };
}

interface Counts {
  readonly written: number;
  readonly dropped: number;
  readonly failed: number;
}

async function countsOf(metrics: Metrics): Promise<Counts> {
  const samples = samplesOf(await metrics.exposition());
  const count = (result: string): number => samples.get(`tollkeeper_log_entries_total{result="${result}"}`) ?? -1;
  return { written: count('written'), dropped: count('dropped'), failed: count('failed') };
}

async function requestIds(redis: Redis, tenant = 'acme'): Promise<string[]> {
  const entries = await redis.xrange(keys.log(tenant, day), '-', '+');
  return entries.map(([, fields]) => fields[fields.indexOf('requestId') + 1] as string);
}

describe('exactly once', () => {
  test('50,000 entries through SCRIPT FLUSH and a killed and restarted Redis: each is there once', async () => {
    const server = await redisServer({ appendonly: true });
    const { log, counts } = accessLog(await connection(server.url));
    const total = 50_000;
    const append = (from: number, to: number): void => {
      for (let index = from; index < to; index += 1) log.append(entry({ requestId: String(index) }));
    };
    append(0, 20_000);
    await until(() => log.queued < 19_000);
    await server.client().script('FLUSH');
    append(20_000, 35_000);
    await until(() => log.queued < 30_000);
    await server.restart({ keepData: true });
    append(35_000, total);
    expect(await log.flush(120_000)).toEqual({ remaining: 0 });

    expect(await server.client().xlen(keys.log('acme', day))).toBe(total);
    expect(new Set(await requestIds(server.client())).size).toBe(total);
    expect(await readCalls(server.client(), 'acme', ['abcdefghijkl'])).toEqual([total]);
    expect(await counts()).toEqual({ written: total, dropped: 0, failed: 0 });
    expect(log.queued).toBe(0);
  });

  test('replies that are lost after the batch was written double nothing', async () => {
    const server = await redisServer({ tcp: true });
    const proxy = await startFaultProxy({ port: server.port });
    atEnd.push(() => proxy.stop());
    const { log, counts } = accessLog(await connection(`redis://127.0.0.1:${proxy.port}`));
    proxy.swallowReplies(5, 'tk:logseq');
    for (let index = 0; index < 3000; index += 1) log.append(entry({ requestId: String(index) }));
    expect(await log.flush(120_000)).toEqual({ remaining: 0 });
    expect(proxy.swallowed).toBe(5);
    const ids = await requestIds(server.client());
    expect(ids).toHaveLength(3000);
    expect(new Set(ids).size).toBe(3000);
    expect(await counts()).toEqual({ written: 3000, dropped: 0, failed: 0 });
  });

  test('a batch whose time ran out in a frozen Redis is written once when it wakes up', async () => {
    const server = await redisServer();
    const { log, counts } = accessLog(await connection(server.url, 50));
    server.freeze();
    for (let index = 0; index < 450; index += 1) log.append(entry({ requestId: String(index) }));
    expect(await log.flush(300)).toEqual({ remaining: 450 });
    server.thaw();
    expect(await log.flush(120_000)).toEqual({ remaining: 0 });
    expect((await requestIds(server.client())).length).toBe(450);
    expect(await counts()).toEqual({ written: 450, dropped: 0, failed: 0 });
  });

  test('a Redis out of memory loses nothing: the log goes on when there is room', async () => {
    const server = await redisServer();
    const { log, counts } = accessLog(await connection(server.url));
    await server.client().config('SET', 'maxmemory', '1');
    for (let index = 0; index < 300; index += 1) log.append(entry({ requestId: String(index) }));
    expect((await log.flush(200)).remaining).toBe(300);
    await server.client().config('SET', 'maxmemory', '0');
    expect(await log.flush(120_000)).toEqual({ remaining: 0 });
    expect(await counts()).toEqual({ written: 300, dropped: 0, failed: 0 });
    expect((await requestIds(server.client())).length).toBe(300);
  });
});

test('a batch that the script refuses after a long outage is tried on as one without an outage before it', async () => {
  const server = await redisServer();
  const redis = server.client();
  let errors = 0;
  const metrics = new Metrics('1');
  const counted = { logEntries: metrics.logEntries.bind(metrics), storeError: () => (errors += 1) };
  const { log } = accessLog(await connection(server.url), { metrics: counted });
  await redis.lpush(keys.logSequence('all', log.writer), 'no number');
  await redis.config('SET', 'maxmemory', '1');
  log.append(entry({ requestId: 'kept' }));
  // A flush ends the wait between two attempts.
  const failedTimes = (times: number): Promise<void> =>
    until(async () => {
      await log.flush(1);
      return errors >= times;
    });
  await failedTimes(12);
  await redis.config('SET', 'maxmemory', '0');
  await failedTimes(errors + 2);
  await redis.del(keys.logSequence('all', log.writer));
  expect(await log.flush(120_000)).toEqual({ remaining: 0 });
  expect(await requestIds(redis)).toEqual(['kept']);
});

describe('the buffer is bounded', () => {
  test('what does not fit while Redis is frozen is counted and leaves a gap record for each tenant', async () => {
    const server = await redisServer();
    const { log, counts } = accessLog(await connection(server.url, 50), { bufferMaxEntries: 1000 });
    server.freeze();
    for (let index = 0; index < 1000; index += 1) log.append(entry({ requestId: String(index) }));
    for (let index = 0; index < 70; index += 1) log.append(entry({ tenant: index < 40 ? 'acme' : 'other' }));
    expect(log.queued).toBe(1000);
    expect((await counts()).dropped).toBe(70);
    server.thaw();
    expect(await log.flush(120_000)).toEqual({ remaining: 0 });
    const redis = server.client();
    const gapOf = async (tenant: string): Promise<(string | undefined)[][]> =>
      (await redis.xrange(keys.log(tenant, day), '-', '+'))
        .map(([, fields]) => fields)
        .filter((fields) => fields.includes('log-gap'))
        .map((fields) => [fields[fields.indexOf('tenant') + 1], fields[fields.indexOf('dropped') + 1]]);
    expect(await gapOf('acme')).toEqual([['acme', '40']]);
    expect(await gapOf('other')).toEqual([['other', '30']]);
    expect(await counts()).toEqual({ written: 1000, dropped: 70, failed: 0 });
  });

  test('closing without Redis ends at its deadline and counts what is given up', async () => {
    const server = await redisServer();
    const { log, counts } = accessLog(await connection(server.url));
    await server.kill();
    for (let index = 0; index < 250; index += 1) log.append(entry());
    expect(await log.close({ stalledMs: 100, deadlineMs: 60_000 })).toEqual({ remaining: 250 });
    log.append(entry());
    expect(await counts()).toEqual({ written: 0, dropped: 251, failed: 0 });
  });

  test('closing writes a backlog for as long as a slow Redis takes it', async () => {
    const server = await redisServer({ tcp: true });
    const proxy = await startFaultProxy({ port: server.port });
    atEnd.push(() => proxy.stop());
    const { log, counts } = accessLog(await connection(`redis://127.0.0.1:${proxy.port}`), { flushIntervalMs: 60_000 });
    proxy.fail({ kind: 'latency', ms: 300 });
    for (let index = 0; index < 1000; index += 1) log.append(entry());
    const begunMs = performance.now();
    // Five batches, one after the other.
    expect(await log.close({ stalledMs: 1200, deadlineMs: 60_000 })).toEqual({ remaining: 0 });
    expect(performance.now() - begunMs).toBeGreaterThan(1200);
    expect(await counts()).toEqual({ written: 1000, dropped: 0, failed: 0 });
  });

  test('closing does not write for longer than its deadline', async () => {
    const server = await redisServer({ tcp: true });
    const proxy = await startFaultProxy({ port: server.port });
    atEnd.push(() => proxy.stop());
    const { log, counts } = accessLog(await connection(`redis://127.0.0.1:${proxy.port}`), { flushIntervalMs: 60_000 });
    proxy.fail({ kind: 'latency', ms: 100 });
    for (let index = 0; index < 10_000; index += 1) log.append(entry());
    const { remaining } = await log.close({ stalledMs: 60_000, deadlineMs: 500 });
    // Fifty batches take five seconds.
    expect(remaining).toBeGreaterThan(0);
    expect((await counts()).dropped).toBe(remaining);
  });

  test('closing writes what was appended last, and the gap records', async () => {
    const server = await redisServer();
    const { log } = accessLog(await connection(server.url), { flushIntervalMs: 60_000, bufferMaxEntries: 3 });
    for (let index = 0; index < 5; index += 1) log.append(entry({ requestId: String(index) }));
    expect(await log.close({ stalledMs: 5000, deadlineMs: 5000 })).toEqual({ remaining: 0 });
    expect(await server.client().xlen(keys.log('acme', day))).toBe(4);
  });
});

test('a key that is no stream fails its own entries and hinders no other tenant', async () => {
  const server = await redisServer();
  await server.client().set(keys.log('bad', day), 'no stream');
  const { log, counts } = accessLog(await connection(server.url));
  for (let index = 0; index < 500; index += 1) log.append(entry({ tenant: index % 2 === 0 ? 'bad' : 'acme' }));
  expect(await log.flush(120_000)).toEqual({ remaining: 0 });
  expect(await counts()).toEqual({ written: 250, dropped: 0, failed: 250 });
});

test('an entry is written within the interval although no batch is full', async () => {
  const server = await redisServer();
  const { log } = accessLog(await connection(server.url));
  log.append(entry());
  await until(async () => (await server.client().xlen(keys.log('acme', day))) === 1);
  expect(log.queued).toBe(0);
});

describe('reading back', () => {
  const hour = 3_600_000;

  async function collect(entries: AsyncGenerator<LoggedEntry>, max = Number.POSITIVE_INFINITY): Promise<string[]> {
    const ids: string[] = [];
    for await (const { requestId } of entries) {
      if (ids.push(requestId) >= max) break;
    }
    return ids;
  }

  test('all tenants and days come as one list, in both directions and over many pages', async () => {
    const server = await redisServer();
    const redis = await connection(server.url);
    const { log } = accessLog(redis);
    const expected: string[] = [];
    for (const [round, timeMs] of [today - 24 * hour, today].entries()) {
      for (let index = 0; index < 1300; index += 1) {
        const requestId = `${round}-${index}`;
        expected.push(requestId);
        log.append(entry({ requestId, timeMs, tenant: ['acme', 'other', ''][index % 3] as string }));
      }
      await log.flush(120_000);
    }
    const range = { tenants: ['', 'acme', 'other'], fromMs: today - 25 * hour, toMs: today + hour, filter: {} };
    // Entries of one batch may share their millisecond: order holds within a tenant.
    const forward = await collect(readForward(redis, range));
    const backward = await collect(readBackward(redis, range));
    expect(forward.toSorted()).toEqual(expected.toSorted());
    expect(backward.toSorted()).toEqual(expected.toSorted());
    const ofAcme = { ...range, tenants: ['acme'] };
    const acme = expected.filter((id) => Number(id.slice(2)) % 3 === 0);
    expect(await collect(readForward(redis, ofAcme))).toEqual(acme);
    expect(await collect(readBackward(redis, ofAcme))).toEqual(acme.toReversed());
    expect(await collect(readBackward(redis, ofAcme), 2)).toEqual(acme.slice(-2).toReversed());
    expect(await collect(readForward(redis, { ...ofAcme, fromMs: today }))).toEqual(acme.filter((id) => id[0] === '1'));
  });

  test('filters keep what matches, and every gap record', async () => {
    const server = await redisServer();
    const redis = await connection(server.url);
    const { log } = accessLog(redis, { bufferMaxEntries: 4, flushIntervalMs: 60_000 });
    log.append(entry({ requestId: 'a', status: 404, tokenId: 'one', path: '/x/1' }));
    log.append(entry({ requestId: 'b', status: 200, tokenId: 'one', path: '/x/2' }));
    log.append(entry({ requestId: 'c', status: 429, tokenId: 'two', path: '/y/1' }));
    log.append(entry({ requestId: 'd', status: 500, tokenId: 'two', path: '/y/2' }));
    log.append(entry({ requestId: 'dropped' }));
    await log.flush(120_000);
    const range = { tenants: ['acme'], fromMs: today - hour, toMs: today + hour };
    const found = async (filter: Parameters<typeof readForward>[1]['filter']): Promise<string[]> => {
      return collect(readForward(redis, { ...range, filter }));
    };
    expect(await found({ status: { from: 400, to: 499 } })).toEqual(['a', 'c', '']);
    expect(await found({ tokenId: 'one' })).toEqual(['a', 'b', '']);
    expect(await found({ pathPrefix: '/y/', status: { from: 500, to: 599 } })).toEqual(['d', '']);
  });

  test('follow sees what is written from its start on, also of a tenant and a day that come later, until it is stopped', async () => {
    const server = await redisServer();
    const { log } = accessLog(await connection(server.url));
    log.append(entry({ requestId: 'before' }));
    await log.flush(120_000);
    const [seconds] = await server.client().time();
    const stop = new AbortController();
    const blocking = await connection(server.url);
    const seen: string[] = [];
    const reading = (async () => {
      const options = { tenants: () => Promise.resolve(['acme', 'new']), filter: {}, signal: stop.signal };
      for await (const { requestId } of follow(blocking, { ...options, fromMs: (Number(seconds) + 1) * 1000 })) {
        seen.push(requestId);
        if (seen.length === 3) stop.abort();
      }
    })();
    await until(async () => Number((await server.client().time())[0]) > Number(seconds));
    log.append(entry({ requestId: '1' }));
    await until(() => seen.length === 1);
    // The writer must know too, or it writes the entry once more into the empty Redis.
    expect(await log.flush(120_000)).toEqual({ remaining: 0 });
    await server.restart({ keepData: false });
    log.append(entry({ requestId: '2', tenant: 'new' }));
    await until(() => seen.length === 2);
    log.append(entry({ requestId: '3', tenant: 'new' }));
    await reading;
    expect(seen).toEqual(['1', '2', '3']);
  });
});
