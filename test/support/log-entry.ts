import type { LogEntry } from '../../src/accesslog/entry.js';

/** An entry as a test needs it; noon of 2026-03-04 UTC by default. */
export function sampleEntry(fields: Partial<LogEntry> = {}): LogEntry {
  return {
    timeMs: Date.UTC(2026, 2, 4, 12, 0, 0, 7),
    requestId: 'req-1',
    tenant: 'acme',
    tokenId: 'abcdefghijkl',
    method: 'GET',
    path: '/api/v1/products',
    route: '/api/v1/products',
    status: 200,
    outcome: 'ok',
    durationMs: 1.5,
    upstreamMs: 1.25,
    bytesIn: 0,
    bytesOut: 42,
    ip: '203.0.113.7',
    userAgent: 'curl/8.5.0',
    ...fields,
  };
}
