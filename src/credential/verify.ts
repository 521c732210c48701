/**
 * Holds a presented credential against a token's record: pure decisions, no I/O. What is decided here holds for the
 * record's version; admission confirms that this version is still the current one.
 */
import type { KeyObject } from 'node:crypto';
import { deny, type Denial } from '../core/problems.js';
import type { RequestHead } from '../http/request-head.js';
import type { PreparedToken } from '../token/cache.js';
import { digestMatches } from './bearer.js';
import {
  type BearerCredential,
  type Credential,
  invalidSignature,
  invalidToken,
  type SignatureCredential,
} from './extract.js';
import { notAfterMs, notBeforeMs, signatureMatches } from './hmac.js';
import { type HmacSecrets, unreadable } from './hmac-secrets.js';
import { messageSignatureMatches, type SignedMessage } from './message-signature.js';

const revoked = deny('token-revoked', 'This token was revoked and never works again.');
const inactive = deny('token-inactive', 'This token is switched off.');
const expired = deny('token-expired', 'This token has expired.');
const stale = deny('stale-timestamp', 'The timestamp is more than 300 s from the server time in the Date header.');
const beforeRestore = deny('stale-timestamp', 'The store was restored after this was signed: sign the request again.');
const signatureExpired = deny('stale-timestamp', 'The signature has expired: its parameter expires is in the past.');
const secretUnreadable = deny('store-unavailable', 'The secret of this token cannot be read.', { retryAfterS: 5 });

/** What a verification found besides its refusal; one object is filled again and again. */
export interface Verification {
  /** The secret was right: the request speaks for this token, whether it may pass or not. */
  authentic: boolean;
  /** From when until when, on Redis' clock in ms, the credential is good; 0 leaves a side open. */
  notBeforeMs: number;
  notAfterMs: number;
}

/** The request as it was sent: what a signature is held against. */
export interface SentRequest {
  readonly method: string;
  /** Path and query, byte for byte. */
  readonly targetAsSent: string;
  /** The host the client asked for, and whether by HTTPS. */
  readonly host: string;
  readonly secure: boolean;
  /** Lower-case hex. */
  readonly bodySha256Hex: string;
  readonly head: Pick<RequestHead, 'fieldValue'>;
}

/** Checks a credential of whichever kind against a token's record. Fills `found`. */
export function verifyCredential(
  token: PreparedToken,
  credential: BearerCredential | SignatureCredential,
  secrets: HmacSecrets,
  request: SentRequest,
  found: Verification,
): Denial | undefined {
  return credential.kind === 'bearer'
    ? verifyBearer(token, credential.digest, found)
    : verifySignature(token, credential, secrets, request, found);
}

/**
 * Checks a Bearer token's digest: the current secret, or the previous one while its grace lasts. Fills `found`.
 * The work is the same for every outcome: an unknown secret cannot be told from a wrong one by time.
 */
function verifyBearer(token: PreparedToken, digest: Buffer, found: Verification): Denial | undefined {
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
function verifySignature(
  token: PreparedToken,
  credential: SignatureCredential,
  secrets: HmacSecrets,
  request: SentRequest,
  found: Verification,
): Denial | undefined {
  found.authentic = false;
  found.notBeforeMs = notBeforeMs(credential.timestampS);
  found.notAfterMs = earlier(token.notAfterMs, notAfterMs(credential.timestampS) + 1);
  const expiresMs = expiryOf(credential);
  if (expiresMs > 0) found.notAfterMs = earlier(found.notAfterMs, expiresMs);
  if (token.record.mode !== 'hmac') return invalidSignature;
  const current = secrets.current(token);
  if (current === unreadable) return secretUnreadable;
  if (!signedBy(current, credential, request)) {
    const previous = secrets.previous(token);
    if (previous === undefined) return invalidSignature;
    // It may be the right one while its grace lasts; later it counts for nothing.
    if (previous === unreadable) return inGrace(token) ? secretUnreadable : invalidSignature;
    if (!signedBy(previous, credential, request)) return invalidSignature;
    found.notAfterMs = earlier(found.notAfterMs, token.record.previousUntil ?? 1);
  }
  found.authentic = true;
  return standing(token) ?? signedBeforeRestore(token, credential.timestampS);
}

/** By the clock of this process: between two refusals nothing depends on seconds. */
function inGrace({ record }: PreparedToken): boolean {
  return record.previousUntil !== null && record.previousUntil > Date.now();
}

function signedBy(key: KeyObject, credential: SignatureCredential, request: SentRequest): boolean {
  if (credential.kind === 'hmac') {
    const { timestampText, nonce, signature } = credential;
    const { method, targetAsSent, bodySha256Hex } = request;
    return signatureMatches(key, method, targetAsSent, timestampText, nonce, bodySha256Hex, signature);
  }
  const matches = messageSignatureMatches(key, credential.signed, signedMessage(request));
  return matches && credential.bodySha256Hex === request.bodySha256Hex;
}

/** A request in the terms of RFC 9421. */
export function signedMessage(request: SentRequest): SignedMessage {
  return {
    method: request.method,
    scheme: request.secure ? 'https' : 'http',
    host: request.host,
    target: request.targetAsSent,
    field: (name) => request.head.fieldValue(name),
  };
}

/** First millisecond (Unix) at which a signature has expired by its own word; 0: it says none. */
function expiryOf(credential: SignatureCredential): number {
  return credential.kind === 'hmac' || credential.signed.expiresS < 0
    ? 0
    : Math.max(1, credential.signed.expiresS * 1000);
}

/** The refusal for a request outside its window: which of expiry, grace and skew it missed. */
export function outsideWindow(token: PreparedToken, nowMs: number, credential: Credential): Denial {
  if (token.notAfterMs !== 0 && nowMs >= token.notAfterMs) return expired;
  if (!('timestampS' in credential)) return invalidToken;
  const { timestampS } = credential;
  if (nowMs < notBeforeMs(timestampS) || nowMs > notAfterMs(timestampS)) return stale;
  const expiresMs = expiryOf(credential);
  return expiresMs > 0 && nowMs >= expiresMs ? signatureExpired : invalidSignature;
}

/**
 * The refusal of a signature from before its token came back from a backup: the record of those that were used was lost,
 * so that it may be a replay.
 */
export function signedBeforeRestore({ record }: PreparedToken, timestampS: number): Denial | undefined {
  return record.signaturesFrom !== null && timestampS * 1000 < record.signaturesFrom ? beforeRestore : undefined;
}

/** The refusal of a token that is switched off or revoked, whoever shows its secret. */
export function standing(token: PreparedToken): Denial | undefined {
  if (token.record.state === 'revoked') return revoked;
  return token.record.state === 'inactive' ? inactive : undefined;
}

function earlier(a: number, b: number): number {
  return a === 0 || b < a ? b : a;
}
