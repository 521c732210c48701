/** What every request leaves behind, whatever its end: one log entry and its metrics. */
import type { AccessLog } from '../accesslog/writer.js';
import type { RateLimitedKind } from '../telemetry/catalogue.js';
import type { Metrics } from '../telemetry/metrics.js';
import type { TokenRedaction } from '../token/redaction.js';
import type { Exchange } from './exchange.js';

/** Called once an exchange, when its answer is complete or its client has left. */
export function recordExchange(
  exchange: Exchange,
  log: AccessLog,
  metrics: Metrics,
  logQuery: boolean,
  redaction: TokenRedaction,
): void {
  const durationMs = performance.now() - exchange.startedAtMs;
  const { head, status, outcome } = exchange;
  metrics.observeRequest(outcome, exchange.method, status, durationMs / 1000);
  if (exchange.upstreamMs > 0) metrics.observeUpstream(exchange.upstreamMs / 1000);
  if (status === 429) {
    const kind = limitedBy(exchange);
    if (kind !== undefined) metrics.rateLimited(kind);
  }
  log.append({
    timeMs: Date.now() - durationMs,
    requestId: exchange.requestId,
    tenant: exchange.token?.record.tenant ?? '',
    tokenId: exchange.token?.id ?? '',
    method: exchange.method,
    path: redaction.redact(logQuery ? exchange.targetAsSent : exchange.path || pathOf(exchange.targetAsSent)),
    route: exchange.route?.pattern ?? '',
    status,
    outcome,
    durationMs,
    upstreamMs: exchange.upstreamMs,
    bytesIn: exchange.body?.received ?? 0,
    bytesOut: exchange.bytesOut,
    ip: exchange.clientAddress,
    userAgent: redaction.redact(head.userAgent),
  });
}

/** Which of ours refused; undefined for a 429 that is the upstream's own. */
function limitedBy(exchange: Exchange): RateLimitedKind | undefined {
  switch (exchange.outcome) {
    case 'rate-limit-exceeded':
      return exchange.limitIndex >= (exchange.token?.limitHeaders.length ?? 0) ? 'tenant' : 'rate-limit';
    case 'quota-exceeded':
      return 'quota';
    case 'too-many-auth-failures':
      return 'auth-failures';
    default:
      return undefined;
  }
}

function pathOf(target: string): string {
  const query = target.indexOf('?');
  return query < 0 ? target : target.slice(0, query);
}
