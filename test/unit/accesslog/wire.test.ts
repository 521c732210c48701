import * as fc from 'fast-check';
import { Unpackr } from 'msgpackr';
import { expect, test } from 'vitest';
import { encodeBatch, RecordNumbers } from '../../../src/accesslog/batch.js';
import { milliseconds, rfc3339, visibleText } from '../../../src/accesslog/entry.js';
import { sampleEntry } from '../../support/log-entry.js';

type Unpacked = [
  texts: string[],
  streams: (string | number)[][],
  entries: (string | number)[][],
  gaps: (string | number)[][],
  uses: unknown[][],
  finds: number[][],
];

function batchOf(entries: Parameters<typeof encodeBatch>[0], gaps: Parameters<typeof encodeBatch>[1] = []) {
  const records = new RecordNumbers('writer');
  return encodeBatch(entries, gaps, {
    sequenceKey: 'sequence',
    number: 7,
    records,
    retentionDays: 30,
    streamMaxEntries: 1000,
  });
}

function unpacked(batch: ReturnType<typeof encodeBatch>): Unpacked {
  return new Unpackr({ int64AsType: 'number', mapsAsObjects: true }).unpack(batch.args[3] as Buffer) as Unpacked;
}

test('any msgpack reader reads every field of every entry back', () => {
  const word = fc.string({ unit: 'binary', maxLength: 300 });
  const entries = fc.array(
    fc
      .record({ requestId: word, path: word, userAgent: word, route: word, ip: word, method: word, tokenId: word })
      .chain((texts) =>
        fc
          .record({
            status: fc.integer({ min: 0, max: 599 }),
            bytesOut: fc.nat(),
            durationMs: fc.double({ min: 0, max: 1e6, noNaN: true }),
          })
          .map((numbers) => sampleEntry({ ...texts, ...numbers })),
      ),
    { minLength: 1, maxLength: 200 },
  );
  fc.assert(
    fc.property(entries, (list) => {
      const [texts, , found] = unpacked(batchOf(list));
      const at = (place: string | number | undefined): string => texts[Number(place) - 1] as string;
      expect(found).toHaveLength(list.length);
      for (const [index, entry] of list.entries()) {
        const e = found[index] as (string | number)[];
        expect([e[0], at(e[1]), e[2], at(e[3]), at(e[4]), at(e[5]), e[6], at(e[7])]).toEqual([
          1,
          rfc3339(entry.timeMs),
          visibleText(entry.requestId, 128),
          entry.tenant,
          visibleText(entry.tokenId, 128),
          visibleText(entry.method, 128),
          visibleText(entry.path, 1024),
          visibleText(entry.route, 1024),
        ]);
        expect([at(e[8]), at(e[9]), e[10], e[11], e[12], e[13], at(e[14]), at(e[15])]).toEqual([
          String(entry.status),
          entry.outcome,
          milliseconds(entry.durationMs),
          milliseconds(entry.upstreamMs),
          String(entry.bytesIn),
          String(entry.bytesOut),
          visibleText(entry.ip, 128),
          visibleText(entry.userAgent, 256),
        ]);
      }
    }),
    { numRuns: 40 },
  );
});

test('each tenant and day has a stream of its own with its own expiry, and no tenant has the stream _', () => {
  const dayMs = 86_400_000;
  const timeMs = Date.UTC(2026, 2, 4, 23, 59, 59, 999);
  const batch = batchOf(
    [
      sampleEntry({ timeMs }),
      sampleEntry({ timeMs: timeMs + 1 }),
      sampleEntry({ timeMs, tenant: '', tokenId: '' }),
      sampleEntry({ timeMs }),
    ],
    [{ tenant: 'late', dropped: 3, timeMs }],
  );
  expect(batch.keys).toEqual([
    'sequence',
    'log:{acme}:2026-03-04',
    'log:{acme}:2026-03-05',
    'log:{_}:2026-03-04',
    'log:{late}:2026-03-04',
    'tk:logtotals:{acme}:2026-03-04',
    'tk:logtotals:{acme}:2026-03-05',
    'tk:logtotals:{_}:2026-03-04',
    'tk:logtotals:{late}:2026-03-04',
    'tk:usage:{acme}:abcdefghijkl',
    'tk:usage:{acme}:abcdefghijkl',
    'tk:usage:{acme}',
    'tk:usage:{acme}',
    'tk:logindex:{acme}:abcdefghijkl:2026-03-04',
    'tk:logindex:{acme}:abcdefghijkl:2026-03-05',
    'tk:logindex:{late}:log-gap:2026-03-04',
  ]);
  const endOfDay = (Date.UTC(2026, 2, 5) + 30 * dayMs) / 1000;
  const [, streams, entries] = unpacked(batch);
  expect(streams.map((stream) => stream.slice(0, 4))).toEqual([
    [endOfDay, 'writer:1:2', 'writer', 2],
    [endOfDay + 86_400, 'writer:1:1', 'writer', 1],
    [endOfDay, 'writer:1:1', 'writer', 1],
    [endOfDay, 'writer:1:1', 'writer', 1],
  ]);
  expect(entries.map((entry) => entry[0])).toEqual([1, 2, 3, 1]);
  expect(batch.count).toBe(4);
});

test('the records of a writer are numbered without a hole in each stream, over its batches', () => {
  const records = new RecordNumbers('w');
  const heads = [3, 1, 2].map((count, number) => {
    const entries = Array.from({ length: count }, () => sampleEntry());
    const target = { sequenceKey: 's', number, records, retentionDays: 30, streamMaxEntries: 1000 };
    return unpacked(encodeBatch([...entries, sampleEntry({ tenant: `other${number}` })], [], target))[1];
  });
  expect(heads.map(([acme, other]) => [acme?.[1], other?.[1]])).toEqual([
    ['w:1:3', 'w:1:1'],
    ['w:4:1', 'w:1:1'],
    ['w:5:2', 'w:1:1'],
  ]);
});

test('the calls of a token are summed and its last use is the latest, in whatever order entries end', () => {
  const batch = batchOf([
    sampleEntry({ timeMs: 1_700_000_002_000.6, ip: '10.0.0.2', durationMs: 1 }),
    sampleEntry({
      timeMs: 1_700_000_001_000,
      ip: '10.0.0.1',
      durationMs: 5_000_000,
      status: 503,
      outcome: 'overloaded',
    }),
  ]);
  const [texts, , , , uses] = unpacked(batch);
  const [usage, hour, sums, calls, lastUsedAt, ip, agent, routes] = uses[0] as [
    ...[number, number, Record<string, number>, number, number, number, number],
    number[],
  ];
  expect([usage, hour, calls, lastUsedAt]).toEqual([1, 472_222, 2, 1_700_000_002_000]);
  expect([texts[ip - 1], texts[agent - 1]]).toEqual(['10.0.0.2', 'curl/8.5.0']);
  expect(sums).toEqual({ us: 5_000_001_000, c2: 1, c5: 1, overloaded: 1, 32: 1, 168: 1 });
  expect([texts[(routes[0] ?? 0) - 1], routes[1]]).toEqual(['/api/v1/products', 2]);
});
