/** `GET /.well-known/tollkeeper`: what the holder of a token may know of it. Costs nothing and never goes upstream. */
import type { Verdict } from '../admission/ticket.js';
import { isQuota } from '../admission/limit.js';
import type { Policy, Route } from '../policy/routes.js';
import type { PreparedTenant, PreparedToken } from '../token/cache.js';
import { effectiveLimits } from '../token/token.js';

/** The path on the data plane, reserved while `wellKnown` is on. */
const selfDescriptionPath = '/.well-known/tollkeeper';

/** Any valid token; charged nothing. */
export const selfDescriptionRoute: Route = { pattern: selfDescriptionPath, scopes: [], cost: 0, public: false };

/** The route of a normalised path on the data plane; who asks about itself has one of its own (`wellKnown`). */
export function routeOf(policy: Policy, wellKnown: boolean, method: string, path: string): Route | undefined {
  const describesSelf = path === selfDescriptionPath && (method === 'GET' || method === 'HEAD');
  return describesSelf && wellKnown ? selfDescriptionRoute : policy.match(method, path);
}

/**
 * The answer's JSON. `nearest` is the limit nearest to its end, of the token or its tenant; times are RFC 3339 UTC,
 * windows and resets seconds.
 */
export function describeSelf(
  token: PreparedToken,
  tenant: PreparedTenant,
  state: Pick<Verdict, 'limitIndex' | 'remaining' | 'resetMs'>,
): string {
  const { record } = token;
  const headers = [...token.limitHeaders, ...tenant.limitHeaders];
  const nearest = headers[state.limitIndex];
  return JSON.stringify({
    id: record.id,
    tenant: record.tenant,
    name: record.name,
    scopes: record.scopes,
    expiresAt: record.expiresAt === null ? null : new Date(record.expiresAt).toISOString(),
    limits: effectiveLimits(record).map((limit, at) => ({
      name: token.limitHeaders[at]?.name,
      ...(isQuota(limit)
        ? { limit: limit.limit, period: limit.period }
        : { limit: limit.limit, window: limit.window, algorithm: limit.algorithm }),
    })),
    nearest:
      nearest === undefined
        ? null
        : { name: nearest.name, remaining: state.remaining, reset: Math.ceil(state.resetMs / 1000) },
  });
}
