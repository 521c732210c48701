import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { dayName, dayOf } from '../../src/accesslog/entry.js';
import { type DayVerification, verifyDay } from '../../src/accesslog/verify.js';
import { keys } from '../../src/redis/keys.js';
import { sampleEntry } from '../support/log-entry.js';
import { type RedisServer, startRedis } from '../support/redis.js';
import { until } from '../support/until.js';
import { openLog, writeLog } from '../support/written-log.js';

const now = Date.now();
const day = dayOf(now);
const stream = keys.log('acme', dayName(day));
const totals = keys.logTotals('acme', dayName(day));

let server: RedisServer;
let redis: Redis;

beforeAll(async () => {
  server = await startRedis();
  redis = server.client();
});
beforeEach(() => redis.flushall());
afterAll(() => server.stop());

/** Three writers, each with batches of 200, 200 and 50 of this tenant among others of another. */
async function writeThree(): Promise<void> {
  for (let writer = 0; writer < 3; writer += 1) {
    const entries = Array.from({ length: 450 }, (_, index) =>
      sampleEntry({ timeMs: now, requestId: `${writer}-${index}` }),
    );
    await writeLog(server.url, entries);
    await writeLog(server.url, [sampleEntry({ timeMs: now, tenant: 'other' })]);
  }
}

async function ids(): Promise<string[]> {
  return (await redis.xrange(stream, '-', '+')).map(([id]) => id);
}

function verify(cap = 1_000_000): Promise<DayVerification> {
  return verifyDay(redis, 'acme', day, cap);
}

test('a log that is whole is found whole', async () => {
  await writeThree();
  expect(await verify()).toEqual({
    tenant: 'acme',
    date: dayName(day),
    entries: 1350,
    batches: 9,
    writers: 3,
    dropped: 0,
    missing: [],
    missingCount: 0,
    trimmedCount: 0,
    strayCount: 0,
    unnumberedCount: 0,
    complete: true,
  });
});

test('a day without a log is whole', async () => {
  expect(await verify()).toMatchObject({ entries: 0, writers: 0, complete: true });
});

describe('what is missing is found and named', () => {
  beforeEach(writeThree);

  /** Deletes the entries at these places and answers what is found then. */
  async function without(...places: number[]): Promise<DayVerification> {
    const all = await ids();
    await redis.xdel(stream, ...places.map((place) => all.at(place) as string));
    return verify();
  }

  test('every single entry, wherever it stands', async () => {
    const all = await redis.xrange(stream, '-', '+');
    const copy = keys.log('copy', dayName(day));
    await redis.copy(totals, keys.logTotals('copy', dayName(day)));
    for (const place of [0, 1, 198, 199, 200, 201, 399, 400, 449, 450, 451, 899, 900, 1348, 1349]) {
      await redis.copy(stream, copy, 'REPLACE');
      await redis.xdel(copy, all[place]?.[0] as string);
      const found = await verifyDay(redis, 'copy', day, 1_000_000);
      expect([place, found.complete, found.missingCount - found.strayCount]).toEqual([place, false, 1]);
    }
  });

  test('a whole batch', async () => {
    const found = await without(...Array.from({ length: 200 }, (_, place) => 650 + place));
    expect(found).toMatchObject({ missingCount: 200, strayCount: 0, complete: false });
    expect(found.missing).toEqual([expect.objectContaining({ first: 201, last: 400, count: 200 })]);
  });

  test('the end of what a writer wrote', async () => {
    const found = await without(...Array.from({ length: 50 }, (_, place) => -1 - place));
    expect(found.missing).toEqual([expect.objectContaining({ first: 401, last: 450, count: 50 })]);
  });

  test('everything of one writer, and a stream that is gone', async () => {
    const found = await without(...Array.from({ length: 450 }, (_, place) => 450 + place));
    expect(found.missing).toEqual([expect.objectContaining({ first: 1, last: 450, count: 450, after: null })]);
    await redis.del(stream);
    expect(await verify()).toMatchObject({ entries: 0, missingCount: 1350, complete: false });
  });
});

test('batches that were acknowledged and lost with the memory of Redis are a hole before the next one', async () => {
  const log = await openLog(server.url);
  await log.write(300);
  await redis.save();
  await log.write(250);
  await server.restart({ keepData: true });
  await log.write(10);
  await log.close();
  await until(async () => (await redis.ping()) === 'PONG');
  const found = await verify();
  expect(found.missing).toEqual([expect.objectContaining({ first: 301, last: 550, count: 250 })]);
  expect(found).toMatchObject({ entries: 310, complete: false });
});

test('what is there and should not be is found', async () => {
  await writeThree();
  await redis.xadd(stream, '*', 'time', new Date(now).toISOString(), 'outcome', 'ok', 'batch', '');
  expect(await verify()).toMatchObject({ strayCount: 1, missingCount: 0, complete: false });
  await redis.xadd(stream, '*', 'time', new Date(now).toISOString(), 'outcome', 'ok');
  expect(await verify()).toMatchObject({ unnumberedCount: 1, complete: false });
});

test('a copy of a batch is stray', async () => {
  await writeThree();
  for (const [, fields] of await redis.xrange(stream, '-', '+', 'COUNT', 200)) await redis.xadd(stream, '*', ...fields);
  expect(await verify()).toMatchObject({ strayCount: 200, missingCount: 0, complete: false });
});

test('what a writer had to drop is told from its gap records', async () => {
  const entries = Array.from({ length: 500 }, () => sampleEntry({ timeMs: now }));
  await writeLog(server.url, entries, { bufferMaxEntries: 300 });
  expect(await verify()).toMatchObject({ entries: 300, dropped: 200, missingCount: 0, strayCount: 0, complete: false });
});

test('a stream that has reached its cap is trimmed, not robbed', async () => {
  await writeThree();
  await redis.xtrim(stream, 'MAXLEN', 500);
  expect(await verify(500)).toMatchObject({ entries: 500, trimmedCount: 850, missingCount: 0, strayCount: 0 });
  await redis.xtrim(stream, 'MAXLEN', 420);
  expect(await verify(420)).toMatchObject({ entries: 420, trimmedCount: 930, missingCount: 0, strayCount: 0 });
  expect((await verify(1000)).missingCount).toBeGreaterThanOrEqual(930);
});
