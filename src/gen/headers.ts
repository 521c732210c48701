/** The header fields that every proxy has to treat the same, whatever its configuration language. */
import { problems, type ProblemSlug } from '../core/problems.js';
import type { GenSettings } from './settings.js';

/** Who is calling: Tollkeeper says it, nobody else. */
export const identityHeaders = [
  'X-Tollkeeper-Token-Id',
  'X-Tollkeeper-Tenant',
  'X-Tollkeeper-Scopes',
  'X-Tollkeeper-Subject',
] as const;

/** What the client learns of its limits, also when it is let through. */
export const limitHeaders = [
  'RateLimit-Policy',
  'RateLimit',
  'X-RateLimit-Limit',
  'X-RateLimit-Remaining',
  'X-RateLimit-Reset',
] as const;

/** Credentials end at the proxy. */
export function credentialHeaders({ hmacPrefix, apiKeyHeader, messageSignatures }: GenSettings): string[] {
  return [
    'Authorization',
    ...(apiKeyHeader ? ['X-API-Key'] : []),
    ...(messageSignatures ? ['Signature-Input', 'Signature'] : []),
    ...['Token', 'Timestamp', 'Nonce', 'Signature'].map((name) => hmacPrefix + name),
  ];
}

/** What Tollkeeper decides by, for a proxy that names what it passes on. */
export function askedHeaders(settings: GenSettings): string[] {
  return [
    ...credentialHeaders(settings),
    digestHeader(settings),
    ...(settings.messageSignatures ? ['Content-Digest'] : []),
    'X-Request-Id',
    'User-Agent',
  ];
}

/** The digest that a signature covers; the upstream gets it from Tollkeeper, never from the client. */
export function digestHeader({ hmacPrefix }: GenSettings): string {
  return `${hmacPrefix}Content-SHA256`;
}

/**
 * Names of the facts about a request (http/original-request.ts) that no proxy needs to send on; a proxy that cannot
 * remove fields by their prefix removes these one by one.
 */
export const otherNamesOfFacts = [
  'X-Forwarded-Method',
  'X-Forwarded-Uri',
  'X-Original-Method',
  'X-Original-URI',
  'X-Original-URL',
  'X-Original-Host',
  'X-Original-Proto',
  'X-Original-For',
] as const;

/** What the decision does not need and may be larger than the 4 KiB of headers that Tollkeeper reads. */
export const bulkyHeaders = [
  'Cookie',
  'Referer',
  'Accept',
  'Accept-Encoding',
  'Accept-Language',
  'If-None-Match',
  'If-Modified-Since',
] as const;

/** Upgrades (h2c, WebSocket) would open a tunnel past every later check. */
export const upgradeHeaders = ['Upgrade', 'HTTP2-Settings', 'Sec-WebSocket-Key', 'Sec-WebSocket-Version'] as const;

/** Everything Tollkeeper itself can answer besides 401 and 403. */
export const otherRefusals: readonly number[] = [
  ...new Set(
    Object.values(problems)
      .filter((problem) => problem.fault !== 'upstream')
      .map((problem) => problem.status),
  ),
]
  .filter((status) => status !== 401 && status !== 403)
  .sort((a, b) => a - b);

/** The body of the answer when Tollkeeper gives none: the request is refused. */
export const unavailableBody = problemBody('store-unavailable', 'Tollkeeper does not answer.');

/** The body for the one refusal that the HTTP binding of the verify plane gives itself, without a problem document. */
export const headersTooLargeBody = problemBody('headers-too-large', 'Target and headers are larger than 4 KiB.');

/** The body for a request body without an announced length, from a proxy that passes on trailers with it. */
export const lengthRequiredBody = problemBody('length-required', 'Send the body with Content-Length.');

/** The body for a request that names no host. */
export const noHostBody = problemBody('malformed-request', 'Exactly one valid Host header is needed.');

/** The body for a request line that names no path of this host. */
export const noPathBody = problemBody('malformed-request', 'The request target must be a path.');

function problemBody(slug: ProblemSlug, detail: string): string {
  const { title, status } = problems[slug];
  return JSON.stringify({ type: `https://tollkeeper.dev/problems/${slug}`, title, status, detail });
}

/**
 * Marks of RFC 9110 that a field name may hold besides `-`, digits and letters. A backend may fold each of them into the
 * one that stands for `-`, such as X_Tollkeeper_Tenant into HTTP_X_TOLLKEEPER_TENANT.
 */
export const foldableMarks: readonly string[] = "_.!#$%&'*+^`|~".split('');

/** Every line of a text behind the mark of a comment. */
export function comment(text: string, mark = '#'): string {
  return text
    .split('\n')
    .map((line) => `${mark} ${line}`.trimEnd())
    .join('\n');
}
