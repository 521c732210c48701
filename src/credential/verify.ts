/**
 * Holds a presented credential against a token's record: pure decisions, no I/O. What is decided here holds for the
 * record's version; admission confirms that this version is still the current one.
 */
import type { KeyObject } from 'node:crypto';
import { deny, type Denial } from '../core/problems.js';
import type { PreparedToken } from '../token/cache.js';
import { digestMatches } from './bearer.js';
import { type Credential, type HmacCredential, invalidSignature, invalidToken } from './extract.js';
import { notAfterMs, notBeforeMs, signatureMatches } from './hmac.js';
import type { HmacSecrets } from './hmac-secrets.js';

const revoked = deny('token-revoked', 'This token was revoked and never works again.');
const inactive = deny('token-inactive', 'This token is switched off.');
const expired = deny('token-expired', 'This token has expired.');
const stale = deny('stale-timestamp', 'The timestamp is more than 300 s from the server time in the Date header.');
const unreadable = deny('store-unavailable', 'The secret of this token cannot be read.', { retryAfterS: 5 });

/** What a verification found besides its refusal; one object is filled again and again. */
export interface Verification {
  /** The secret was right: the request speaks for this token, whether it may pass or not. */
  authentic: boolean;
  /** From when until when, on Redis' clock in ms, the credential is good; 0 leaves a side open. */
  notBeforeMs: number;
  notAfterMs: number;
}

/**
 * Checks a Bearer token's digest: the current secret, or the previous one while its grace lasts. Fills `found`.
 * The work is the same for every outcome: an unknown secret cannot be told from a wrong one by time.
 */
export function verifyBearer(token: PreparedToken, digest: Buffer, found: Verification): Denial | undefined {
  found.authentic = false;
  found.notBeforeMs = 0;
  found.notAfterMs = token.notAfterMs;
  if (token.record.mode !== 'bearer') return invalidToken;
  const current = digestMatches(digest, token.secretDigest);
  const previous = token.previousDigest !== null && digestMatches(digest, token.previousDigest);
  if (!current && !previous) return invalidToken;
  if (!current) found.notAfterMs = earlier(token.notAfterMs, token.record.previousUntil ?? 1);
  found.authentic = true;
  return standing(token);
}

/** Checks a signature over the request as it was sent. Fills `found` with the overlap of skew and expiry. */
export function verifyHmac(
  token: PreparedToken,
  credential: HmacCredential,
  secrets: HmacSecrets,
  method: string,
  targetAsSent: string,
  bodySha256Hex: string,
  found: Verification,
): Denial | undefined {
  found.authentic = false;
  found.notBeforeMs = notBeforeMs(credential.timestampS);
  found.notAfterMs = earlier(token.notAfterMs, notAfterMs(credential.timestampS) + 1);
  if (token.record.mode !== 'hmac') return invalidSignature;
  const current = secrets.current(token);
  if (current === undefined) return unreadable;
  if (!signedBy(current, credential, method, targetAsSent, bodySha256Hex)) {
    const previous = secrets.previous(token);
    if (previous === undefined || !signedBy(previous, credential, method, targetAsSent, bodySha256Hex)) {
      return invalidSignature;
    }
    found.notAfterMs = earlier(found.notAfterMs, token.record.previousUntil ?? 1);
  }
  found.authentic = true;
  return standing(token);
}

function signedBy(
  key: KeyObject,
  credential: HmacCredential,
  method: string,
  targetAsSent: string,
  bodySha256Hex: string,
): boolean {
  const { timestampText, nonce, signature } = credential;
  return signatureMatches(key, method, targetAsSent, timestampText, nonce, bodySha256Hex, signature);
}

/** The refusal for a request outside its window: which of expiry, grace and skew it missed. */
export function outsideWindow(token: PreparedToken, nowMs: number, credential: Credential): Denial {
  if (token.notAfterMs !== 0 && nowMs >= token.notAfterMs) return expired;
  if (credential.kind !== 'hmac') return invalidToken;
  const { timestampS } = credential;
  return nowMs < notBeforeMs(timestampS) || nowMs > notAfterMs(timestampS) ? stale : invalidSignature;
}

function standing(token: PreparedToken): Denial | undefined {
  if (token.record.state === 'revoked') return revoked;
  return token.record.state === 'inactive' ? inactive : undefined;
}

function earlier(a: number, b: number): number {
  return a === 0 || b < a ? b : a;
}
