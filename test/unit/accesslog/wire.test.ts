import * as fc from 'fast-check';
import { Unpackr } from 'msgpackr';
import { expect, test } from 'vitest';
import { encodeBatch, RecordNumbers } from '../../../src/accesslog/batch.js';
import { milliseconds, rfc3339, visibleText } from '../../../src/accesslog/entry.js';
import { usageRecord } from '../../../src/accesslog/wire.js';
import { unpackRecent } from '../../../src/usage/recent.js';
import { TallyTable } from '../../../src/usage/tally.js';
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
    'tk:logwriters:{acme}:2026-03-04',
    'tk:logwriters:{acme}:2026-03-05',
    'tk:logwriters:{_}:2026-03-04',
    'tk:logwriters:{late}:2026-03-04',
    'tk:recent:{acme}:abcdefghijkl',
    'tk:recent:{acme}',
    'tk:usage:{acme}:abcdefghijkl',
    'tk:usage:{acme}',
    'tk:logplaces:{acme}:abcdefghijkl:2026-03-04',
    'tk:logplaces:{acme}:abcdefghijkl:2026-03-05',
    'tk:logplaces:{late}:log-gap:2026-03-04',
  ]);
  const endOfDay = (Date.UTC(2026, 2, 5) + 30 * dayMs) / 1000;
  const [, streams, entries, , uses, finds] = unpacked(batch);
  // Two hours of the token, two of its tenant; the usage of each is the same key.
  expect(uses.map(([usage]) => usage)).toEqual([1, 1, 2, 2]);
  expect(streams.map((stream) => stream[5])).toEqual([2, 2, 0, 0]);
  expect(finds.map((find) => [find[0], find[1], find[3]])).toEqual([
    [1, 1, 1],
    [2, 2, 1],
    [3, 4, 0],
  ]);
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
  const tallies = new TallyTable();
  tallies.add(sampleEntry({ timeMs: 1_700_000_002_000.6, ip: '10.0.0.2', durationMs: 1 }), true);
  const late = { timeMs: 1_700_000_001_000, ip: '10.0.0.1', durationMs: 5_000_000 };
  tallies.add(sampleEntry({ ...late, status: 503, outcome: 'overloaded' }), true);
  const ofBoth = tallies.finish().map((tally) => unpackRecent(Buffer.from(usageRecord(tally), 'latin1')));
  const expected = {
    hour: 472_222,
    calls: 2,
    lastUsed: { atMs: 1_700_000_002_000, ip: '10.0.0.2', userAgent: 'curl/8.5.0' },
    routes: [['/api/v1/products', 2]],
    sums: {
      durationUs: 5_000_001_000,
      statusClasses: [0, 0, 1, 0, 0, 1],
      buckets: new Map([
        [32, 1],
        [168, 1],
      ]),
      outcomes: new Map([['overloaded', 1]]),
    },
  };
  // Of the token and of its tenant.
  expect(ofBoth).toEqual([[expected], [expected]]);
});
