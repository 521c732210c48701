import { expect, test } from 'vitest';
import { compileLimits, type Limit, limitKey } from '../../../src/admission/limit.js';

test('the compiled form is what lua/admit.lua reads: 25 bytes a limit, little-endian', () => {
  const compiled = compileLimits([
    { limit: 7, window: 60, algorithm: 'token-bucket', burst: 3 },
    { limit: 2 ** 40, period: 'month' },
  ]);
  const read = (at: number) => [
    compiled.readUInt8(at),
    ...[1, 7, 13, 19].map((offset) => compiled.readUIntLE(at + offset, 6)),
  ];
  expect(compiled.length).toBe(50);
  expect(read(0)).toEqual([3, 7, 60_000, 8_571_429, 3]);
  expect(read(25)).toEqual([5, 2 ** 40, 0, 0, 0]);
  expect(compileLimits([]).length).toBe(0);
});

test('a bucket that would take centuries to fill is cut to what can be counted exactly', () => {
  const compiled = compileLimits([{ limit: 1, window: 31_622_400, algorithm: 'token-bucket', burst: 1e9 }]);
  expect(compiled.readUIntLE(19, 6)).toBe(142);
});

test('identities differ by algorithm, window and period, not by number', () => {
  const sliding = (limit: number): Limit => ({ limit, window: 60, algorithm: 'sliding-window' });
  expect(limitKey(sliding(1))).toBe(limitKey(sliding(2)));
  const limits: Limit[] = [
    sliding(1),
    { limit: 1, window: 6, algorithm: 'sliding-window' },
    { limit: 1, window: 60, algorithm: 'fixed-window' },
    { limit: 1, window: 60, algorithm: 'token-bucket' },
    { limit: 1, period: 'day' },
    { limit: 1, period: 'month' },
  ];
  expect(new Set(limits.map(limitKey)).size).toBe(limits.length);
});

test('a number that Redis could not hold is refused instead of written', () => {
  expect(() => compileLimits([{ limit: -1, period: 'day' }])).toThrow(RangeError);
  expect(() => compileLimits([{ limit: 0, window: 60, algorithm: 'sliding-window' }])).toThrow(RangeError);
  expect(() => compileLimits([{ limit: 2 ** 48, period: 'day' }])).toThrow(RangeError);
});
