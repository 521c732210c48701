import { expect, test } from 'vitest';
import { batchMax, EntryBuffer, gapTenantsMax } from '../../../src/accesslog/buffer.js';
import { sampleEntry } from '../../support/log-entry.js';

test('entries leave in the order they came, in batches of a bounded size', () => {
  const buffer = new EntryBuffer(10_000);
  for (let index = 0; index < batchMax * 2 + 3; index += 1) buffer.push(sampleEntry({ requestId: String(index) }));
  const sizes: number[] = [];
  const seen: string[] = [];
  for (let batch = buffer.take(); batch.length > 0; batch = buffer.take()) {
    sizes.push(batch.length);
    seen.push(...batch.map((entry) => entry.requestId));
  }
  expect(sizes).toEqual([batchMax, batchMax, 3]);
  expect(seen).toEqual(Array.from({ length: batchMax * 2 + 3 }, (_, index) => String(index)));
});

test('what is taken takes up room until it is settled', () => {
  const buffer = new EntryBuffer(2);
  expect(buffer.push(sampleEntry())).toBe(true);
  expect(buffer.push(sampleEntry())).toBe(true);
  const taken = buffer.take().length;
  expect(buffer.push(sampleEntry())).toBe(false);
  buffer.settle(taken);
  expect(buffer.push(sampleEntry())).toBe(true);
  expect(buffer.size).toBe(1);
});

test('what is dropped is counted for its tenant, once', () => {
  const buffer = new EntryBuffer(0);
  for (const [tenant, timeMs] of [
    ['a', 5],
    ['b', 6],
    ['a', 9],
  ] as const)
    buffer.push(sampleEntry({ tenant, timeMs }));
  expect(buffer.hasGaps).toBe(true);
  expect(buffer.takeGaps(1)).toEqual([{ tenant: 'a', dropped: 2, timeMs: 9 }]);
  expect(buffer.takeGaps(10)).toEqual([{ tenant: 'b', dropped: 1, timeMs: 6 }]);
  expect(buffer.takeGaps(10)).toEqual([]);
  expect(buffer.hasGaps).toBe(false);
});

test('a flood of tenants cannot grow the count of drops without bound, and none is lost from it', () => {
  const buffer = new EntryBuffer(0);
  for (let index = 0; index < gapTenantsMax + 500; index += 1) buffer.push(sampleEntry({ tenant: `t${index}` }));
  const gaps = buffer.takeGaps(Number.POSITIVE_INFINITY);
  expect(gaps.length).toBeLessThanOrEqual(gapTenantsMax + 1);
  expect(gaps.reduce((sum, { dropped }) => sum + dropped, 0)).toBe(gapTenantsMax + 500);
});

test('while memory is short no more than a thousand entries wait, and the rest is dropped and counted', () => {
  let isShort = false;
  const buffer = new EntryBuffer(10_000, { used: 0, isShort: () => isShort });
  for (let count = 0; count < 1200; count += 1) expect(buffer.push(sampleEntry())).toBe(true);
  isShort = true;
  expect(buffer.push(sampleEntry())).toBe(false);
  buffer.settle(201);
  expect([buffer.push(sampleEntry()), buffer.push(sampleEntry())]).toEqual([true, false]);
  isShort = false;
  expect(buffer.push(sampleEntry())).toBe(true);
  expect(buffer.takeGaps(10).map(({ dropped }) => dropped)).toEqual([2]);
});
