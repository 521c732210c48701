import { expect, test } from 'vitest';
import { blankVerdict, type Verdict } from '../../../src/admission/ticket.js';
import type { Limit } from '../../../src/admission/limit.js';
import {
  type LimitHeaders,
  limitOfVerdict,
  prepareLimitHeaders,
  rateFields,
  retryAfterS,
} from '../../../src/admission/rate-headers.js';

function headersOf(limit: LimitHeaders, fields: Partial<Verdict>): Record<string, string> {
  const lines = rateFields(limit, Object.assign(blankVerdict(), fields)).split('\r\n');
  expect(lines.shift()).toBe('');
  return Object.fromEntries(lines.map((line) => line.split(': ', 2) as [string, string]));
}

test('an admitted request reads its limit, what remains and when more comes back', () => {
  const [limit] = prepareLimitHeaders([{ limit: 60, window: 60, algorithm: 'sliding-window' }], 'token');
  expect(headersOf(limit as LimitHeaders, { remaining: 41, resetMs: 12_001 })).toEqual({
    'RateLimit-Policy': '"token-60s";q=60;w=60',
    RateLimit: '"token-60s";r=41;t=13',
    'X-RateLimit-Limit': '60',
    'X-RateLimit-Remaining': '41',
    'X-RateLimit-Reset': '13',
  });
});

test('a refusal also reads when to come back, a second at least and never before the reset', () => {
  const [limit] = prepareLimitHeaders([{ limit: 1, window: 1, algorithm: 'fixed-window' }], 'tenant');
  const headers = headersOf(limit as LimitHeaders, { remaining: 0, resetMs: 1, retryMs: 1 });
  expect(headers).toMatchObject({ RateLimit: '"tenant-1s-fixed";r=0;t=1', 'Retry-After': '1' });
  expect([retryAfterS(0), retryAfterS(1000), retryAfterS(1001)]).toEqual([1, 1, 2]);
});

test.each<[Limit, string]>([
  [{ limit: 60, window: 60, algorithm: 'token-bucket' }, '"token-60s-bucket";q=60;w=60'],
  [{ limit: 60, window: 60, algorithm: 'token-bucket', burst: 10 }, '"token-60s-bucket";q=10;w=10'],
  [{ limit: 100, window: 1, algorithm: 'token-bucket', burst: 10 }, '"token-1s-bucket";q=10;w=1'],
  [{ limit: 1000, period: 'day' }, '"token-day";q=1000;w=86400'],
  [{ limit: 1000, period: 'month' }, '"token-month";q=1000'],
])('policy of %o', (limit, policy) => {
  expect(prepareLimitHeaders([limit], 'token')[0]?.policy).toBe(policy);
});

test('the limit a verdict speaks of is the token’s, then the tenant’s, or none', () => {
  const token = prepareLimitHeaders(
    [
      { limit: 1, window: 1, algorithm: 'sliding-window' },
      { limit: 1, period: 'day' },
    ],
    'token',
  );
  const tenant = prepareLimitHeaders([{ limit: 1, window: 1, algorithm: 'sliding-window' }], 'tenant');
  const named = (limitIndex: number) =>
    limitOfVerdict(Object.assign(blankVerdict(), { limitIndex }), token, tenant)?.name;
  expect([0, 1, 2, 3, -1].map(named)).toEqual(['token-1s', 'token-day', 'tenant-1s', undefined, undefined]);
});
