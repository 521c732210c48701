/**
 * What a request gets while Redis cannot be asked: 503, or where its route says `serve-known` an answer for a Bearer
 * token that was admitted shortly before. Never for a signature: that it was not used before only Redis knows.
 */
import type { Verdict } from '../admission/ticket.js';
import type { OutageLimits } from '../admission/outage.js';
import { limitOfVerdict } from '../admission/rate-headers.js';
import type { Denial } from '../core/problems.js';
import type { OutageMode } from '../policy/routes.js';
import type { Metrics } from '../telemetry/metrics.js';
import { tenantLimits } from '../tenant/tenant.js';
import { effectiveLimits } from '../token/token.js';
import { rateLimited, storeAway } from './refusals.js';
import type { RequestState } from './request-state.js';

/** Answers the refusal, undefined when the request may pass. */
export function denialWithoutStore(
  request: RequestState,
  mode: OutageMode,
  outage: OutageLimits,
  metrics: Metrics,
): Denial | undefined {
  if (mode === 'deny') return storeAway;
  const { token, tenant } = request;
  const verdict =
    token !== undefined && tenant !== undefined && isGood(request)
      ? outage.serve(request, effectiveLimits(token.record), tenantLimits(tenant.record), performance.now())
      : 'unknown';
  if (verdict === 'served' || verdict === 'unknown') {
    metrics.outageRequest(verdict);
    return verdict === 'served' ? undefined : storeAway;
  }
  metrics.outageRequest('limited');
  request.retryMs = verdict;
  return rateLimited;
}

/** By the clock of this process. */
function isGood({ pending, cost, credential, notBeforeMs, notAfterMs }: RequestState): boolean {
  const nowMs = Date.now();
  return (
    pending === undefined &&
    cost > 0 &&
    credential?.kind === 'bearer' &&
    nowMs >= notBeforeMs &&
    (notAfterMs === 0 || nowMs < notAfterMs)
  );
}

/** Redis has just admitted this token, or a lease has. */
export function rememberAdmitted(request: RequestState, verdict: Verdict, outage: OutageLimits): void {
  const { token, tenant } = request;
  // All of a lease counts as used: it may be, after Redis has gone.
  const told = verdict.lease ?? verdict;
  const limit = limitOfVerdict(told, token?.limitHeaders ?? [], tenant?.limitHeaders ?? []);
  const capacity = Number(limit?.capacity ?? 0);
  const usedShare = capacity > 0 ? 1 - told.remaining / capacity : 0;
  const nowMs = performance.now();
  if (verdict.nowMs === 0) outage.leased(request, usedShare, nowMs);
  else outage.admitted(request, usedShare, nowMs);
}
