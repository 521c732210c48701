import type { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { encodeBatch, logAppend, RecordNumbers } from '../../src/accesslog/batch.js';
import { dayName, dayOf, type LogEntry } from '../../src/accesslog/entry.js';
import { exportText } from '../../src/accesslog/export.js';
import type { LogFilter, LoggedEntry } from '../../src/accesslog/logged-entry.js';
import { InvalidCursorError, type PageQuery, readPage } from '../../src/accesslog/page.js';
import { readBackward, readForward } from '../../src/accesslog/reader.js';
import { keys } from '../../src/redis/keys.js';
import { bindScript, loadScript } from '../../src/redis/scripts.js';
import { sampleEntry } from '../support/log-entry.js';
import { type RedisServer, startRedis } from '../support/redis.js';
import { writeLog } from '../support/written-log.js';

const hourMs = 3_600_000;
/** The entries lie in the half minute before, which is to be one day's. */
const now = clearOfMidnight(Date.now());
const retentionDays = 30;
const busyTokens = ['busy0', 'busy1', 'busy2'];

let server: RedisServer;
let redis: Redis;
/** In the order of their writing within a day, gap records as entries of the request id `gap`. */
const written: LogEntry[] = [];

/** Entries of today and yesterday, a rare token among busy ones, and a gap record. */
beforeAll(async () => {
  server = await startRedis();
  redis = server.client();
  for (const day of [1, 0]) {
    const entries = Array.from({ length: 3000 }, (_, index) =>
      sampleEntry({
        timeMs: now - day * 24 * hourMs - (3000 - index) / 100,
        requestId: `${day}-${index}`,
        tokenId: index % 500 === 7 ? 'rare' : (busyTokens[index % 3] as string),
        method: index % 4 === 0 ? 'POST' : 'GET',
        path: index % 5 === 0 ? `/b/${index}` : `/a/${index}`,
        status: index % 100 === 0 ? 503 : index % 10 === 0 ? 404 : 200,
        ip: `10.0.0.${index % 50}`,
      }),
    );
    await writeLog(server.url, entries.slice(0, 1000));
    // One more does not fit: a gap record follows the first batch of these.
    await writeLog(server.url, entries.slice(1000, 2001), { bufferMaxEntries: 1000, flushIntervalMs: 60_000 });
    await writeLog(server.url, entries.slice(2001));
    const gap = sampleEntry({ ...(entries[2000] as LogEntry), requestId: 'gap', outcome: 'log-gap' });
    written.push(...entries.slice(0, 1200), gap, ...entries.slice(1200, 2000), ...entries.slice(2001));
  }
});
afterAll(() => server.stop());

/** The time, or in the first minute of a day the last moment of the day before. */
function clearOfMidnight(timeMs: number): number {
  const sinceMidnightMs = timeMs % (24 * hourMs);
  return sinceMidnightMs < 60_000 ? timeMs - sinceMidnightMs - 1 : timeMs;
}

function query(filter: LogFilter = {}, more: Partial<PageQuery> = {}): PageQuery {
  return { tenant: 'acme', filter, limit: 100, ...more };
}

async function pages(asked: PageQuery): Promise<{ ids: string[]; sizes: number[] }> {
  const ids: string[] = [];
  const sizes: number[] = [];
  for (let cursor: string | undefined; ; ) {
    const page = await readPage(redis, { ...asked, cursor }, now, retentionDays);
    ids.push(...page.entries.map(nameOf));
    sizes.push(page.entries.length);
    if (page.nextCursor === null) return { ids, sizes };
    cursor = page.nextCursor;
  }
}

function nameOf(entry: LoggedEntry): string {
  return entry.outcome === 'log-gap' ? 'gap' : entry.requestId;
}

/** Newest first, as counting through the written entries gives it. */
function expected(keep: (entry: LogEntry) => boolean): string[] {
  return written
    .filter((entry) => entry.requestId === 'gap' || keep(entry))
    .map(({ requestId }) => requestId)
    .toReversed();
}

describe('the pages together are every entry that is asked for, once, newest first', () => {
  test.each<[string, LogFilter, (entry: LogEntry) => boolean]>([
    ['everything', {}, () => true],
    ['a rare token', { tokenId: 'rare' }, ({ tokenId }) => tokenId === 'rare'],
    ['a busy token', { tokenId: 'busy1' }, ({ tokenId }) => tokenId === 'busy1'],
    ['a token nobody has', { tokenId: 'nobody' }, () => false],
    ['a method', { method: 'POST' }, ({ method }) => method === 'POST'],
    ['a path', { pathPrefix: '/b/' }, ({ path }) => path.startsWith('/b/')],
    ['a class of status', { status: { from: 500, to: 599 } }, ({ status }) => status >= 500],
    ['an address', { ip: '10.0.0.49' }, ({ ip }) => ip === '10.0.0.49'],
    [
      'a token and a status',
      { tokenId: 'busy0', status: { from: 404, to: 404 } },
      ({ tokenId, status }) => tokenId === 'busy0' && status === 404,
    ],
  ])('%s', async (_, filter, keep) => {
    for (const limit of [7, 100]) {
      const { ids, sizes } = await pages(query(filter, { limit }));
      expect(ids).toEqual(expected(keep));
      expect(sizes.slice(0, -1).every((size) => size === limit)).toBe(true);
      expect(sizes.length).toBe(Math.max(1, Math.ceil(ids.length / limit)));
    }
  });

  test('between two times', async () => {
    const fromMs = now - 20;
    const toMs = now - 10;
    const within = written.filter(({ timeMs }) => Math.floor(timeMs) >= fromMs && Math.floor(timeMs) <= toMs);
    const { ids } = await pages(query({}, { fromMs, toMs }));
    expect(ids).toEqual(within.map(({ requestId }) => requestId).toReversed());
    expect(ids.length).toBeGreaterThan(500);
  });

  test('also while new entries come: they are not pushed into later pages', async () => {
    const first = await readPage(redis, query({ ip: '10.0.0.3' }, { limit: 10 }), now, retentionDays);
    await writeLog(server.url, [sampleEntry({ timeMs: now, ip: '10.9.9.9', tokenId: 'late', requestId: 'new' })]);
    const rest = await pages(query({ ip: '10.0.0.3' }, { limit: 10, cursor: undefined }));
    const second = await readPage(
      redis,
      query({ ip: '10.0.0.3' }, { limit: 10, cursor: first.nextCursor ?? '' }),
      now,
      30,
    );
    expect(rest.ids.slice(10, 20)).toEqual(second.entries.map(nameOf));
    const { ids } = await pages(query({ tokenId: 'late' }));
    expect(ids).toEqual(['new', 'gap', 'gap']);
    await redis.xdel(keys.log('acme', dayName(dayOf(now))), (await lastId()) ?? '');
  });

  async function lastId(): Promise<string | undefined> {
    return (await redis.xrevrange(keys.log('acme', dayName(dayOf(now))), '+', '-', 'COUNT', 1))[0]?.[0];
  }
});

test('a batch that waited out an outage is found by the time of its requests', async () => {
  const timeMs = now - 7 * hourMs;
  await writeLog(server.url, [sampleEntry({ tenant: 'waited', timeMs, requestId: 'late' })]);
  const page = await readPage(redis, query({}, { tenant: 'waited', fromMs: timeMs - 1, toMs: timeMs + 1 }), now, 30);
  expect(page.entries.map(nameOf)).toEqual(['late']);
  const day = dayName(dayOf(timeMs));
  expect(Number(await redis.hget(keys.logTotals('waited', day), 'lateMs'))).toBeGreaterThanOrEqual(7 * hourMs - 1);
});

describe('a page is bounded', () => {
  test('a rare token costs Redis a read for each of its entries, not one of the stream', async () => {
    await redis.config('RESETSTAT');
    const page = await readPage(redis, query({ tokenId: 'rare' }), now, retentionDays);
    expect(page.entries).toHaveLength(14);
    const stats = await redis.info('commandstats');
    const callsOf = (command: string): number =>
      Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(stats)?.[1] ?? 0);
    // And one for each of the days before, which have no log.
    expect(callsOf('xrange')).toBe(14 + retentionDays + 1);
    expect(callsOf('xrevrange')).toBe(0);
  });

  test('where nothing matches it ends incomplete after 10,000 entries, and its cursor goes on to the end', async () => {
    const entries = function* (): Generator<LogEntry> {
      for (let index = 0; index < 25_000; index += 1) {
        yield sampleEntry({ tenant: 'large', timeMs: now, requestId: String(index), status: index === 10 ? 500 : 200 });
      }
    };
    await writeLog(server.url, entries());
    const asked = query({ status: { from: 500, to: 500 } }, { tenant: 'large' });
    const first = await readPage(redis, asked, now, retentionDays);
    expect([first.entries.length, first.complete]).toEqual([0, false]);
    const second = await readPage(redis, { ...asked, cursor: first.nextCursor ?? '' }, now, retentionDays);
    expect([second.entries.length, second.complete]).toEqual([0, false]);
    const third = await readPage(redis, { ...asked, cursor: second.nextCursor ?? '' }, now, retentionDays);
    expect([third.entries.map(nameOf), third.complete, third.nextCursor]).toEqual([['10'], true, null]);
  });
});

describe('what the index does not know', () => {
  const tenant = 'capped';
  const day = dayName(dayOf(now));

  beforeAll(async () => {
    // A flush after each entry: a batch, and so a record of the index, for each.
    const entries = Array.from({ length: 600 }, (_, index) => {
      return sampleEntry({ tenant, timeMs: now, requestId: String(index), tokenId: index % 2 === 0 ? 'even' : 'odd' });
    });
    for (let place = 0; place < 600; place += 20) await writeLog(server.url, entries.slice(place, place + 20));
  });

  const evenIds = Array.from({ length: 300 }, (_, index) => String(598 - index * 2));

  test('entries that were trimmed away are left out, those of others do not stand in for them', async () => {
    const stream = keys.log(tenant, day);
    const copy = keys.log('trimmed', day);
    await redis.copy(stream, copy);
    await redis.copy(keys.logTotals(tenant, day), keys.logTotals('trimmed', day));
    await redis.copy(keys.logIndex(tenant, 'even', day), keys.logIndex('trimmed', 'even', day));
    await redis.xtrim(copy, 'MAXLEN', 100);
    const { ids } = await pages(query({ tokenId: 'even' }, { tenant: 'trimmed', limit: 30 }));
    expect(ids).toEqual(evenIds.slice(0, 50));
  });

  test('a stream that an older version wrote, without an index, is looked through', async () => {
    await redis.copy(keys.log(tenant, day), keys.log('older', day));
    const { ids } = await pages(query({ tokenId: 'even' }, { tenant: 'older', limit: 30 }));
    expect(ids).toEqual(evenIds);
  });

  test('before the records of a busy token that were cut off the stream is looked through', async () => {
    const run = bindScript(redis, loadScript(logAppend));
    const records = new RecordNumbers('w');
    const count = 10_400;
    const calls: Promise<unknown>[] = [];
    for (let number = 1; number <= count; number += 1) {
      const entries = [sampleEntry({ tenant: 'full', tokenId: 'even', timeMs: now, requestId: String(number) })];
      const target = {
        sequenceKey: 'tk:logseq:{all}:full',
        number,
        records,
        retentionDays,
        streamMaxEntries: 1_000_000,
      };
      const batch = encodeBatch(entries, [], target);
      calls.push(run(batch.keys, batch.args));
    }
    await Promise.all(calls);
    expect(await redis.strlen(keys.logIndex('full', 'even', day))).toBeLessThan(10_200 * 12);
    const { ids } = await pages(query({ tokenId: 'even' }, { tenant: 'full', limit: 3000 }));
    const newestFirst = Array.from({ length: count }, (_, index) => String(count - index));
    expect(ids).toEqual(newestFirst);
    const range = { tenants: ['full'], fromMs: now - hourMs, toMs: now + hourMs, filter: { tokenId: 'even' } };
    const forward: string[] = [];
    for await (const entry of readForward(redis, range)) forward.push(entry.requestId);
    expect(forward).toEqual(newestFirst.toReversed());
  });

  test('forward and backward are the same entries', async () => {
    for (const filter of [{}, { tokenId: 'even' }]) {
      const range = { tenants: [tenant], fromMs: now - hourMs, toMs: now + hourMs, filter };
      const forward: string[] = [];
      for await (const entry of readForward(redis, range)) forward.push(entry.requestId);
      const backward: string[] = [];
      for await (const entry of readBackward(redis, range)) backward.push(entry.requestId);
      expect(forward.toReversed()).toEqual(backward);
      expect(backward.length).toBe(filter.tokenId === undefined ? 600 : 300);
    }
  });
});

describe('a cursor', () => {
  test.each([
    '',
    'x',
    'MS4xLjEtMQ',
    '1.1.1-1.0000000000000000',
    '../../etc',
    Buffer.from('1.20000.1-1.zzzzzzzzzzzzzzzz').toString('base64url'),
    Buffer.from('1.20000.99999999999999999999-1.0000000000000000').toString('base64url'),
  ])('that is none is refused: %j', async (cursor) => {
    await expect(readPage(redis, query({}, { cursor }), now, 30)).rejects.toBeInstanceOf(InvalidCursorError);
  });

  test('of another query or tenant is refused', async () => {
    const { nextCursor } = await readPage(redis, query({}, { limit: 5 }), now, retentionDays);
    const cursor = nextCursor ?? '';
    await expect(readPage(redis, query({}, { cursor, limit: 50 }), now, 30)).resolves.toBeDefined();
    for (const other of [
      query({ tokenId: 'rare' }, { cursor }),
      query({}, { cursor, tenant: 'other' }),
      query({}, { cursor, fromMs: 1 }),
    ]) {
      await expect(readPage(redis, other, now, 30)).rejects.toThrow(/belongs to another query/);
    }
  });
});

describe('export', () => {
  async function exported(format: 'csv' | 'ndjson', tenant: string): Promise<string> {
    const range = { tenants: [tenant], fromMs: now - 48 * hourMs, toMs: now + hourMs, filter: {} };
    let text = '';
    for await (const part of exportText(readForward(redis, range), format)) text += part;
    return text;
  }

  test('NDJSON is an object a line, oldest first', async () => {
    const lines = (await exported('ndjson', 'acme'))
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as LoggedEntry);
    expect(lines.map(nameOf)).toEqual(written.map(({ requestId }) => requestId));
  });

  test('CSV is never a formula for a spreadsheet, and quotes what it must', async () => {
    const userAgents = ['=1+1', '+1', '-1', '@SUM(A1)', '\t=1', 'a "b", c', "=cmd|'/C calc'!A0"];
    await writeLog(
      server.url,
      userAgents.map((userAgent) => sampleEntry({ tenant: 'csv', timeMs: now, userAgent, path: '/a,b' })),
    );
    const lines = (await exported('csv', 'csv')).trimEnd().split('\r\n');
    expect(lines[0]).toBe(
      'id,time,requestId,tenant,tokenId,method,path,route,status,outcome,durationMs,upstreamMs,bytesIn,bytesOut,ip,userAgent,dropped',
    );
    const ofAgent = lines.slice(1).map((line) => line.slice(line.indexOf('203.0.113.7,') + 12, -2));
    expect(ofAgent).toEqual(["'=1+1", "'+1", "'-1", "'@SUM(A1)", '\uFFFD=1', '"a ""b"", c"', "'=cmd|'/C calc'!A0"]);
    expect(lines[1]).toContain(',"/a,b",');
  });
});
