/** The counting of lua/log-append.lua against a model that knows every request. */
import * as fc from 'fast-check';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { encodeBatch, logAppend, RecordNumbers } from '../../src/accesslog/batch.js';
import type { LogEntry } from '../../src/accesslog/entry.js';
import { problems } from '../../src/core/problems.js';
import { keys } from '../../src/redis/keys.js';
import { bindScript, loadScript, type RunScript } from '../../src/redis/scripts.js';
import { bucketMax, bucketMs } from '../../src/usage/histogram.js';
import { readCalls, readLastUsed, readUsage } from '../../src/usage/reader.js';
import { sampleEntry } from '../support/log-entry.js';
import { type RedisServer, startRedis } from '../support/redis.js';
import { expectUsage } from '../support/usage-model.js';

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

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;
const now = Date.UTC(2026, 2, 4, 12, 34, 56, 789);

let number = 0;
const records = new RecordNumbers('w');

function batchOf(entries: readonly LogEntry[]) {
  number += 1;
  const target = { sequenceKey: 'tk:logseq:{all}:w', number, records, retentionDays: 30, streamMaxEntries: 1_000_000 };
  return encodeBatch(entries, [], target);
}

async function append(entries: readonly LogEntry[]): Promise<void> {
  const batch = batchOf(entries);
  await run(batch.keys, batch.args);
}

const request = fc
  .record({
    // Mostly of the last hours; some days and months old, since batches may wait out an outage.
    ageMs: fc.oneof(
      fc.nat({ max: 3 * hourMs }),
      fc.nat({ max: 3 * dayMs }),
      fc.nat({ max: 40 * dayMs }),
      fc.constantFrom(0, hourMs, 24 * hourMs, 25 * hourMs, 30 * dayMs, 31 * dayMs),
    ),
    token: fc.integer({ min: 0, max: 2 }),
    tenant: fc.integer({ min: 0, max: 1 }),
    answer: fc.constantFrom(
      [200, 'ok'],
      [201, 'ok'],
      [304, 'ok'],
      [404, 'ok'],
      [401, 'ok'],
      [500, 'ok'],
      [0, 'client-closed'],
      [429, 'rate-limit-exceeded'],
      [403, 'insufficient-scope'],
      [401, 'invalid-signature'],
      [401, 'token-revoked'],
      [504, 'upstream-timeout'],
    ),
    durationMs: fc.oneof(fc.double({ min: 0, max: 200, noNaN: true }), fc.double({ min: 0, max: 1e5, noNaN: true })),
    route: fc.constantFrom('', '/a', '/b', '/c/{id}'),
  })
  .map(({ ageMs, token, tenant, answer: [status, outcome], ...rest }) =>
    sampleEntry({
      timeMs: now - ageMs,
      tenant: `tenant${tenant}`,
      tokenId: `t${tenant}token${token}`,
      status,
      outcome,
      ...rest,
    }),
  );

test('whatever comes in whatever order: every figure is what counting every request gives', async () => {
  let longest = 0;
  let settled = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(fc.array(request, { maxLength: 40 }), { maxLength: 12 }), async (batches) => {
      await redis.flushall();
      for (const batch of batches) await append(batch);
      const all = batches.flat();
      for (const tenant of ['tenant0', 'tenant1']) {
        const ofTenant = all.filter((entry) => entry.tenant === tenant);
        expectUsage(await readUsage(redis, tenant, null, now), ofTenant, now);
        for (const id of [0, 1, 2].map((token) => `${tenant.replace('tenant', 't')}token${token}`)) {
          const ofToken = ofTenant.filter((entry) => entry.tokenId === id);
          const report = await readUsage(redis, tenant, id, now);
          expectUsage(report, ofToken, now);
          expect(await readCalls(redis, tenant, [id])).toEqual([report.lifetime.calls]);
          const lastUsedAt = report.lastUsed === null ? null : Date.parse(report.lastUsed.at);
          expect(await readLastUsed(redis, tenant, [id])).toEqual([lastUsedAt]);
          longest = Math.max(longest, await redis.strlen(keys.recentUsage(tenant, id)));
          settled += await redis.exists(keys.usage(tenant, id));
        }
      }
    }),
    { numRuns: 60 },
  );
  // Both parts were met: what waits to be added up, and what was.
  expect([longest > 0, longest < 1500, settled > 0]).toEqual([true, true, true]);
});

test('100 days of calls, hour after hour: old hours and days go, the lifetime stays, the key stays within its bound', async () => {
  const entries: LogEntry[] = [];
  const start = now - 100 * dayMs;
  for (let hour = 0; hour <= 100 * 24; hour += 1) {
    entries.push(
      sampleEntry({ timeMs: start + hour * hourMs, durationMs: hour % 977, status: hour % 7 === 0 ? 500 : 200 }),
    );
  }
  for (let place = 0; place < entries.length; place += 5) await append(entries.slice(place, place + 5));
  const report = await readUsage(redis, 'acme', 'abcdefghijkl', now);
  expectUsage(report, entries, now);
  expect(report.lifetime.calls).toBe(2401);
  // 24 hours, 30 days, the lifetime, 4 plain fields, the number of routes and one route.
  expect(await redis.hlen(keys.usage('acme', 'abcdefghijkl'))).toBe(24 + 30 + 1 + 4 + 2);
  expect(await redis.strlen(keys.recentUsage('acme', 'abcdefghijkl'))).toBeLessThan(800);
});

test('the memory of a token is bounded: everything that can happen in every hour and day stays below 80 kB', async () => {
  const reasons = Object.keys(problems);
  const everything = (timeMs: number): LogEntry[] =>
    Array.from({ length: bucketMax + 1 }, (_, bucket) =>
      sampleEntry({
        timeMs,
        durationMs: bucketMs(bucket),
        status: (bucket % 6) * 100,
        outcome: reasons[bucket % reasons.length] as string,
        route: `/a/route/of/usual/length/${bucket % 64}`,
        userAgent: 'u'.repeat(256),
      }),
    );
  for (let day = 40; day > 1; day -= 1) await append(everything(now - day * dayMs));
  for (let hour = 24; hour >= 0; hour -= 1) await append(everything(now - hour * hourMs));
  const parts = [keys.usage('acme', 'abcdefghijkl'), keys.recentUsage('acme', 'abcdefghijkl')];
  const bytes = await Promise.all(parts.map((key) => redis.memory('USAGE', key, 'SAMPLES', 0)));
  expect(Number(bytes[0]) + Number(bytes[1])).toBeLessThan(80_000);
});

test('64 routes are told apart, calls of further ones are still counted', async () => {
  const entries = Array.from({ length: 200 }, (_, index) => sampleEntry({ timeMs: now, route: `/r/${index % 80}` }));
  await append(entries.slice(0, 100));
  await append(entries.slice(100));
  const report = await readUsage(redis, 'acme', 'abcdefghijkl', now);
  expect(report.topRoutes).toHaveLength(64);
  expectUsage(report, entries, now);
  expect(report.topRoutes[0]).toEqual({ route: '/r/0', calls: 3 });
});

test('routes of whatever number and length in one batch are counted', async () => {
  const entries = Array.from({ length: 200 }, (_, index) =>
    sampleEntry({ timeMs: now, route: `/${index}/${'long'.repeat(index < 100 ? 250 : 1)}` }),
  );
  await append(entries.slice(0, 100));
  await append(entries);
  expectUsage(await readUsage(redis, 'acme', 'abcdefghijkl', now), [...entries.slice(0, 100), ...entries], now);
});

test('rejected credentials are told by reason and are no calls', async () => {
  await append([sampleEntry({ timeMs: now, status: 401, outcome: 'invalid-signature' })]);
  const report = await readUsage(redis, 'acme', 'abcdefghijkl', now);
  expect([report.lifetime.calls, report.lifetime.refusals, report.lastUsed]).toEqual([
    0,
    { 'invalid-signature': 1 },
    null,
  ]);
});

test('a token that was never used has a report of zeros', async () => {
  expectUsage(await readUsage(redis, 'acme', 'never', now), [], now);
});

test('each batch is counted once, although many send it at once and the scripts are flushed half way', async () => {
  const clients = Array.from({ length: 6 }, () => bindScript(server.client(), loadScript(logAppend)));
  const entries: LogEntry[] = [];
  for (let round = 0; round < 20; round += 1) {
    const ofRound = Array.from({ length: 10 }, (_, index) =>
      sampleEntry({ timeMs: now - round * hourMs, durationMs: index }),
    );
    entries.push(...ofRound);
    const batch = batchOf(ofRound);
    await Promise.all([
      ...clients.map((client) => client(batch.keys, batch.args)),
      ...(round === 10 ? [redis.script('FLUSH')] : []),
    ]);
  }
  expectUsage(await readUsage(redis, 'acme', 'abcdefghijkl', now), entries, now);
});

test('entries of different writers and tenants each keep to their own', async () => {
  await append([
    sampleEntry({ timeMs: now, tenant: 'one', tokenId: 'x' }),
    sampleEntry({ timeMs: now, tenant: '', tokenId: '' }),
  ]);
  expect((await redis.keys('tk:recent:*')).toSorted()).toEqual(['tk:recent:{one}', 'tk:recent:{one}:x']);
  expect(await redis.keys('tk:usage:*')).toEqual([]);
});

test('a token of few calls takes less than 256 bytes, and nothing but one short key', async () => {
  await append([sampleEntry({ timeMs: now })]);
  const names = (await redis.keys('tk:*:{acme}:abcdefghijkl')).toSorted();
  expect(names).toEqual([keys.recentUsage('acme', 'abcdefghijkl')]);
  expect(await redis.memory('USAGE', names[0] as string, 'SAMPLES', 0)).toBeLessThan(256);
});

test('a report that is read while calls are counted has each of them once', async () => {
  const entries = Array.from({ length: 400 }, (_, index) => sampleEntry({ timeMs: now - index, durationMs: index }));
  let counted = 0;
  let isDone = false;
  const writing = (async () => {
    for (const entry of entries) {
      await append([entry]);
      counted += 1;
    }
  })().finally(() => {
    isDone = true;
  });
  let reports = 0;
  while (!isDone) {
    const before = counted;
    const { lifetime } = await readUsage(redis, 'acme', 'abcdefghijkl', now);
    // One more may be written and not told to us yet.
    expect([lifetime.calls >= before, lifetime.calls <= counted + 1]).toEqual([true, true]);
    reports += 1;
  }
  await writing;
  expect(reports).toBeGreaterThan(20);
});
