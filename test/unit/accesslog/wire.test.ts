import * as fc from 'fast-check';
import { unpack } from 'msgpackr';
import { expect, test } from 'vitest';
import { encodeBatch } from '../../../src/accesslog/batch.js';
import { milliseconds, rfc3339, visibleText } from '../../../src/accesslog/entry.js';
import { sampleEntry } from '../../support/log-entry.js';

type Unpacked = [texts: string[], entries: (string | number)[][], gaps: (string | number)[][], uses: unknown[][]];

const target = { sequenceKey: 'sequence', number: 7, retentionDays: 30, streamMaxEntries: 1000 };

function unpacked(batch: ReturnType<typeof encodeBatch>): Unpacked {
  return unpack(batch.args[2] as Buffer) as Unpacked;
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
      const [texts, found] = unpacked(encodeBatch(list, [], target));
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
  const batch = encodeBatch(
    [
      sampleEntry({ timeMs }),
      sampleEntry({ timeMs: timeMs + 1 }),
      sampleEntry({ timeMs, tenant: '', tokenId: '' }),
      sampleEntry({ timeMs }),
    ],
    [{ tenant: 'late', dropped: 3, timeMs }],
    target,
  );
  expect(batch.keys).toEqual([
    'sequence',
    'log:{acme}:2026-03-04',
    'log:{acme}:2026-03-05',
    'log:{_}:2026-03-04',
    'log:{late}:2026-03-04',
    'tk:usage:{acme}:abcdefghijkl',
  ]);
  const endOfDay = (Date.UTC(2026, 2, 5) + 30 * dayMs) / 1000;
  expect(batch.args.slice(3)).toEqual([endOfDay, endOfDay + 86_400, endOfDay, endOfDay]);
  expect(unpacked(batch)[1].map((entry) => entry[0])).toEqual([1, 2, 3, 1]);
  expect(batch.count).toBe(4);
});

test('the calls of a token are summed and its last use is the latest, in whatever order entries end', () => {
  const batch = encodeBatch(
    [
      sampleEntry({ timeMs: 1_700_000_002_000.6, ip: '10.0.0.2' }),
      sampleEntry({ timeMs: 1_700_000_001_000, ip: '10.0.0.1' }),
    ],
    [],
    target,
  );
  const [texts, , , uses] = unpacked(batch);
  const [usage, calls, lastUsedAt, ip] = uses[0] as [number, number, string, number];
  expect([usage, calls, lastUsedAt, texts[ip - 1]]).toEqual([1, 2, '1700000002000', '10.0.0.2']);
});
