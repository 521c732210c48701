/** `/v1/tenants/{tenant}/usage`, `/v1/tenants/{tenant}/tokens/{id}/usage`. */
import { z } from 'zod';
import { readUsage } from '../usage/reader.js';
import { type Records, requireTenant, usageOfToken } from './records.js';
import { type AnyRoute, route } from './route.js';
import { named } from './schemas.js';

const tag = 'Usage';
const count = z.int().min(0);
const ms = z.number().nullable();

const summary = {
  calls: count.describe('requests with the token, except those whose credential was rejected'),
  succeeded: count.describe('calls answered 2xx or 3xx'),
  successRate: z.number().nullable().describe('0 to 1; null without calls'),
  byStatus: z.strictObject({ none: count, '1xx': count, '2xx': count, '3xx': count, '4xx': count, '5xx': count }),
  refusals: z.record(z.string(), count).describe('requests by reason: the slug of the problem, or `client-closed`'),
  meanMs: ms,
  p50Ms: ms.describe('percentiles are within 4.4 %'),
  p95Ms: ms,
  p99Ms: ms,
};

const usageSchema = z.strictObject({
  tenant: z.string(),
  tokenId: z.string().nullable().describe('null: all tokens of the tenant, deleted ones too'),
  generatedAt: z.string(),
  lastUsed: z.strictObject({ at: z.string(), ip: z.string(), userAgent: z.string() }).nullable(),
  lifetime: z.strictObject(summary),
  last24Hours: z.strictObject({ ...summary, hours: z.array(z.strictObject({ from: z.string(), ...summary })) }),
  last30Days: z.strictObject({ ...summary, days: z.array(z.strictObject({ date: z.string(), ...summary })) }),
  topRoutes: z.array(z.strictObject({ route: z.string(), calls: count })),
  otherRoutesCalls: count,
});
named.add(usageSchema, { id: 'Usage' });

export function usageRoutes(records: Records): readonly AnyRoute[] {
  const description =
    'Counted together with the access log: both agree to the entry. Hours and days are of UTC, oldest first, the current one included.';
  return [
    route({
      method: 'GET',
      path: '/tenants/{tenant}/usage',
      id: 'tenantUsage',
      tag,
      summary: 'Usage of a tenant: calls, success, response times, routes, refusals',
      description,
      params: z.strictObject({ tenant: z.string() }),
      answer: { status: 200, schema: usageSchema, description: 'The figures of now' },
      handle: async ({ operations, params: { tenant } }) => {
        await requireTenant(operations, tenant);
        return records.store.ask(() => readUsage(records.redis, tenant, null, Date.now()));
      },
    }),
    route({
      method: 'GET',
      path: '/tenants/{tenant}/tokens/{id}/usage',
      id: 'tokenUsage',
      tag,
      summary: 'Usage of a token, also of one that was deleted',
      description,
      params: z.strictObject({ tenant: z.string(), id: z.string() }),
      answer: { status: 200, schema: usageSchema, description: 'The figures of now' },
      handle: ({ operations, params }) => usageOfToken(records, operations, params),
    }),
  ];
}
