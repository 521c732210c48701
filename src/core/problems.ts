/**
 * The catalogue of everything Tollkeeper can answer besides the upstream's own words (RFC 9457).
 * Status, title and whose fault it is stand here and nowhere else; `docs/problems.md` is generated from it.
 */

/** Whose fault a refusal is; the closed set behind the `outcome` alerts in dashboards. */
type Fault = 'client' | 'upstream' | 'platform';

export interface Problem {
  readonly slug: string;
  readonly status: number;
  readonly title: string;
  readonly fault: Fault;
  /** RFC 6750 `error` code of the `WWW-Authenticate` challenge; '' gives a bare challenge. */
  readonly challenge?: '' | 'invalid_token' | 'insufficient_scope' | 'invalid_request';
  /** One sentence for the reader of docs/problems.md: what to do about it. */
  readonly remedy: string;
}

/** Puts each entry under its slug. */
export function catalogue<const T extends Record<string, Omit<Problem, 'slug'>>>(entries: T) {
  const problems = {} as { readonly [K in keyof T]: Problem };
  for (const slug of Object.keys(entries) as (keyof T & string)[]) {
    (problems as Record<string, Problem>)[slug] = { slug, ...(entries[slug] as Omit<Problem, 'slug'>) };
  }
  return problems;
}

export const problems = catalogue({
  'malformed-request': {
    status: 400,
    title: 'The request is malformed',
    fault: 'client',
    remedy: 'Send one well-formed HTTP/1.1 request: a single Host, sound framing, a plain path.',
  },
  'ambiguous-credentials': {
    status: 400,
    title: 'More than one credential was sent',
    fault: 'client',
    remedy: 'Send exactly one credential: a Bearer token, an API key header or one HMAC signature.',
  },
  'missing-credentials': {
    status: 401,
    title: 'No credential was sent',
    fault: 'client',
    challenge: '',
    remedy: 'Send `Authorization: Bearer <token>` or sign the request.',
  },
  'invalid-token': {
    status: 401,
    title: 'The token is not valid',
    fault: 'client',
    challenge: 'invalid_token',
    remedy: 'Check the token for missing characters; if it was rotated or deleted, ask for the new one.',
  },
  'token-expired': {
    status: 401,
    title: 'The token has expired',
    fault: 'client',
    challenge: 'invalid_token',
    remedy: 'Ask the owner of the store for a new expiry or a new token.',
  },
  'token-revoked': {
    status: 401,
    title: 'The token was revoked',
    fault: 'client',
    challenge: 'invalid_token',
    remedy: 'A revoked token never works again: ask for a new one.',
  },
  'token-inactive': {
    status: 401,
    title: 'The token is switched off',
    fault: 'client',
    challenge: 'invalid_token',
    remedy: 'Ask the owner of the store to activate the token.',
  },
  'invalid-signature': {
    status: 401,
    title: 'The signature does not match the request',
    fault: 'client',
    challenge: 'invalid_token',
    remedy: 'Sign method, path and query as sent, timestamp, nonce and body digest with the whole secret.',
  },
  'stale-timestamp': {
    status: 401,
    title: 'The timestamp is outside the allowed skew',
    fault: 'client',
    challenge: 'invalid_token',
    remedy: 'Set the clock (the server time is in the Date header) and sign again.',
  },
  'replayed-request': {
    status: 401,
    title: 'This signed request was already used',
    fault: 'client',
    challenge: 'invalid_token',
    remedy: 'Sign each request anew; add a nonce to send equal requests within one second.',
  },
  'insufficient-scope': {
    status: 403,
    title: 'The token lacks the scope this route needs',
    fault: 'client',
    challenge: 'insufficient_scope',
    remedy: 'Ask for the scope that the detail names.',
  },
  'tenant-mismatch': {
    status: 403,
    title: 'The token belongs to another tenant',
    fault: 'client',
    challenge: 'invalid_token',
    remedy: "Use the host name of the token's own tenant.",
  },
  'https-required': {
    status: 403,
    title: 'This tenant accepts HTTPS only',
    fault: 'client',
    challenge: 'invalid_request',
    remedy: 'Use https://. The token has travelled in clear text: rotate it.',
  },
  'address-not-allowed': {
    status: 403,
    title: 'The token may not be used from this address',
    fault: 'client',
    challenge: 'invalid_token',
    remedy: "Call from an address on the token's allow-list.",
  },
  'route-not-allowed': {
    status: 403,
    title: 'No route of the policy matches',
    fault: 'client',
    challenge: 'insufficient_scope',
    remedy: 'Check the path; routes are matched exactly and what the policy does not name is refused.',
  },
  'method-not-allowed': {
    status: 405,
    title: 'The method is not allowed here',
    fault: 'client',
    remedy: 'Use one of the methods in the Allow header.',
  },
  'length-required': {
    status: 411,
    title: 'The body needs a Content-Length',
    fault: 'client',
    remedy: 'Send Content-Length instead of Transfer-Encoding.',
  },
  'body-too-large': {
    status: 413,
    title: 'The body is too large',
    fault: 'client',
    remedy: 'Send a smaller body; the detail names the limit.',
  },
  'uri-too-long': {
    status: 414,
    title: 'The request target is too long',
    fault: 'client',
    remedy: 'Shorten the path or the query.',
  },
  'headers-too-large': {
    status: 431,
    title: 'The headers are too large',
    fault: 'client',
    remedy: 'Send at most 4 KiB and 97 lines of headers.',
  },
  'rate-limit-exceeded': {
    status: 429,
    title: 'The rate limit is used up',
    fault: 'client',
    remedy: 'Wait for the seconds in Retry-After.',
  },
  'quota-exceeded': {
    status: 429,
    title: 'The quota is used up',
    fault: 'client',
    remedy: 'Wait for the next period (Retry-After) or ask for a larger quota.',
  },
  'too-many-auth-failures': {
    status: 429,
    title: 'Too many failed authentications from this address',
    fault: 'client',
    remedy: 'Stop sending invalid credentials and wait for the seconds in Retry-After.',
  },
  'upstream-unreachable': {
    status: 502,
    title: 'The upstream cannot be reached',
    fault: 'upstream',
    remedy: 'Check that the upstream runs and listens where TOLLKEEPER_UPSTREAM points.',
  },
  'upstream-invalid-response': {
    status: 502,
    title: 'The upstream sent an invalid answer',
    fault: 'upstream',
    remedy: 'Look for a crash or a protocol fault in the upstream.',
  },
  'store-unavailable': {
    status: 503,
    title: 'The token store cannot be asked',
    fault: 'platform',
    remedy: 'Check Redis; the request may be sent again after Retry-After.',
  },
  overloaded: {
    status: 503,
    title: 'Tollkeeper is overloaded',
    fault: 'platform',
    remedy: 'Send less or add workers; the request may be sent again after Retry-After.',
  },
  'upstream-timeout': {
    status: 504,
    title: 'The upstream did not answer in time',
    fault: 'upstream',
    remedy: 'Look for a slow upstream or raise TOLLKEEPER_UPSTREAM_TIMEOUT_MS.',
  },
});

export type ProblemSlug = keyof typeof problems;

/** A refusal as a value: the problem, a sentence for the caller that holds no secret, and headers it needs. */
export interface Denial {
  readonly problem: Problem;
  readonly detail: string;
  /** Whole seconds for `Retry-After`; 0 leaves the header out. */
  readonly retryAfterS: number;
  /** Value of `Allow` (405), else ''. */
  readonly allow: string;
  /** Scope named in the challenge (403 insufficient-scope), else ''. */
  readonly scope: string;
}

/** Makes a {@link Denial}; call it once for a fixed text and keep the value. */
export function deny(
  slug: ProblemSlug,
  detail: string,
  extra: Partial<Omit<Denial, 'problem' | 'detail'>> = {},
): Denial {
  return {
    problem: problems[slug],
    detail,
    retryAfterS: extra.retryAfterS ?? 0,
    allow: extra.allow ?? '',
    scope: extra.scope ?? '',
  };
}
