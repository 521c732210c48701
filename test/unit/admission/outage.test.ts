/** What a process may serve while Redis is away: never more than a limit in any window, whatever happens in between. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Limit } from '../../../src/admission/limit.js';
import { OutageLimits, type OutageSubject } from '../../../src/admission/outage.js';

const subject = (fields: Partial<OutageSubject> = {}): OutageSubject => ({
  tokenKey: 'token',
  tokenVersion: 1,
  tenantKey: 'tenant',
  tenantVersion: 1,
  cost: 1,
  ...fields,
});

const perMinute = (limit: number): Limit => ({ limit, window: 60, algorithm: 'sliding-window' });

/** Serves until it is refused; answers how many were served. */
function served(outage: OutageLimits, limits: readonly Limit[], nowMs: number, tenantLimits: readonly Limit[] = []) {
  let count = 0;
  while (outage.serve(subject(), limits, tenantLimits, nowMs) === 'served') count += 1;
  return count;
}

describe('a token', () => {
  test('that Redis never admitted, admitted as another version, or too long ago is unknown', () => {
    const outage = new OutageLimits(10, 1000);
    expect(outage.serve(subject(), [], [], 0)).toBe('unknown');
    outage.admitted(subject(), 0, 0);
    expect(outage.serve(subject(), [], [], 1000)).toBe('served');
    expect(outage.serve(subject(), [], [], 1001)).toBe('unknown');
    expect(outage.serve(subject({ tokenVersion: 2 }), [], [], 0)).toBe('unknown');
    expect(outage.serve(subject({ tenantVersion: 2 }), [], [], 0)).toBe('unknown');
  });

  test('that changed, or whose tenant did, is unknown until it is admitted again', () => {
    for (const key of ['token', 'tenant']) {
      const outage = new OutageLimits(10, 1000);
      outage.admitted(subject(), 0, 0);
      outage.forget(key);
      expect(outage.serve(subject(), [], [], 0)).toBe('unknown');
      outage.admitted(subject(), 0, 0);
      expect(outage.serve(subject(), [], [], 0)).toBe('served');
    }
  });

  test('gets what it had left, and all of its limit when a window has passed', () => {
    const outage = new OutageLimits(10, 1e9);
    outage.admitted(subject(), 0.75, 1000);
    expect(served(outage, [perMinute(60)], 1000)).toBe(15);
    expect(outage.serve(subject(), [perMinute(60)], [], 1000)).toBeGreaterThan(0);
    expect(served(outage, [perMinute(60)], 60_999)).toBe(0);
    expect(served(outage, [perMinute(60)], 61_000 + 7500)).toBe(60);
  });

  test('is bounded by each of its limits and by those of its tenant', () => {
    const outage = new OutageLimits(10, 1e9);
    outage.admitted(subject(), 0, 0);
    expect(served(outage, [perMinute(60), { limit: 7, period: 'day' }], 0)).toBe(7);
    outage.admitted(subject({ tokenKey: 'other' }), 0, 0);
    const asTenant = new OutageLimits(10, 1e9);
    asTenant.admitted(subject(), 0, 0);
    expect(served(asTenant, [perMinute(60)], 0, [perMinute(5)])).toBe(5);
    expect(asTenant.serve(subject({ tokenKey: 'token' }), [perMinute(60)], [perMinute(5)], 0)).toBeGreaterThan(0);
  });

  test('with a bucket gets as many at once as the bucket holds', () => {
    const outage = new OutageLimits(10, 1e9);
    outage.admitted(subject(), 0, 0);
    expect(served(outage, [{ limit: 60, window: 60, algorithm: 'token-bucket', burst: 5 }], 0)).toBe(5);
  });

  test('gets no second budget when Redis comes back for one admission, nor when its record changes', () => {
    const outage = new OutageLimits(10, 1e9);
    outage.admitted(subject(), 0, 0);
    expect(served(outage, [perMinute(10)], 0)).toBe(10);
    outage.admitted(subject(), 0.1, 100);
    expect(served(outage, [perMinute(10)], 100)).toBe(0);
    outage.admitted(subject({ tokenVersion: 2 }), 0.1, 200);
    expect(outage.serve(subject({ tokenVersion: 2 }), [perMinute(10)], [], 200)).toBeGreaterThan(0);
  });

  test('that a lease admitted has used all of the lease, and no less than Redis told since', () => {
    const outage = new OutageLimits(10, 1e9);
    outage.admitted(subject(), 0.1, 0);
    outage.leased(subject(), 0.4, 50);
    expect(served(outage, [perMinute(60)], 60_000)).toBe(36);
    const told = new OutageLimits(10, 1e9);
    told.admitted(subject(), 0.9, 0);
    told.leased(subject(), 0.4, 50);
    expect(served(told, [perMinute(60)], 60_000)).toBe(6);
  });

  test('that changed stays unknown, whatever a lease of the record before admits', () => {
    const outage = new OutageLimits(10, 1000);
    outage.admitted(subject(), 0, 0);
    outage.forget('token');
    outage.leased(subject(), 0, 0);
    expect(outage.serve(subject(), [], [], 0)).toBe('unknown');
  });

  test('is told a wait after which it is served', () => {
    const outage = new OutageLimits(10, 1e9);
    outage.admitted(subject(), 0.5, 0);
    served(outage, [perMinute(10)], 0);
    let nowMs = 0;
    const waitMs = outage.serve(subject(), [perMinute(10)], [], nowMs);
    nowMs += Number(waitMs);
    expect(outage.serve(subject(), [perMinute(10)], [], nowMs)).toBe('served');
  });
});

test('in no window is more served than the limit, wherever the window begins', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 40 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      fc.array(fc.tuple(fc.integer({ min: 0, max: 20_000 }), fc.integer({ min: 1, max: 8 })), { maxLength: 200 }),
      (limit, usedShare, steps) => {
        const outage = new OutageLimits(10, 1e12);
        outage.admitted(subject(), usedShare, 500);
        // What Redis had admitted counts in every window that reaches back to it.
        const events: [atMs: number, units: number][] = [[500, limit * usedShare]];
        let nowMs = 500;
        for (const [pauseMs, cost] of steps) {
          nowMs += pauseMs;
          if (outage.serve(subject({ cost }), [perMinute(limit)], [], nowMs) === 'served') events.push([nowMs, cost]);
        }
        for (const [endMs] of events) {
          const inWindow = events.filter(([atMs]) => atMs <= endMs && atMs > endMs - 60_000);
          const units = inWindow.reduce((sum, [, each]) => sum + each, 0);
          expect(units).toBeLessThanOrEqual(limit + 1e-5);
        }
      },
    ),
  );
});

test('the least recently used token is forgotten first, and no more are known than allowed', () => {
  const outage = new OutageLimits(4, 1e9);
  for (const tokenKey of ['a', 'b', 'c', 'd', 'e']) outage.admitted(subject({ tokenKey }), 0, 0);
  expect(outage.size).toBe(4);
  expect(outage.serve(subject({ tokenKey: 'a' }), [], [], 0)).toBe('unknown');
  expect(outage.serve(subject({ tokenKey: 'e' }), [], [], 0)).toBe('served');
});
