/**
 * HMAC credentials (docs/hmac.md): what is signed, what a header value may look like, and the comparison.
 * Pure functions on the hot path: loops instead of regular expressions, one scratch pair instead of buffers.
 */
import { createHmac, createSecretKey, timingSafeEqual, type KeyObject } from 'node:crypto';

export { isTokenId } from '../token/format.js';

/** How far a timestamp may be from Redis' clock, in milliseconds, to either side. */
const hmacSkewMs = 300_000;

const claimMarginMs = 1_000;

/** Lower-case hex SHA-256 of the empty body. */
export const emptyBodySha256 = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';

/** Names of the HMAC headers, lower-case, as a parsed request holds them. */
export interface HmacHeaderNames {
  readonly token: string;
  readonly timestamp: string;
  readonly nonce: string;
  readonly signature: string;
  /** Digest that the client declares where the body is not visible (verify plane). */
  readonly contentSha256: string;
}

/** The header names under a prefix such as `X-Tollkeeper-`; call it once, at the start. */
export function hmacHeaderNames(prefix: string): HmacHeaderNames {
  const lower = prefix.toLowerCase();
  return {
    token: `${lower}token`,
    timestamp: `${lower}timestamp`,
    nonce: `${lower}nonce`,
    signature: `${lower}signature`,
    contentSha256: `${lower}content-sha256`,
  };
}

/**
 * What is signed. `target` is path and query as sent, `timestamp` the header's text, `nonce` '' when none was sent.
 * No part can hold a line feed in a valid request, so two different requests never share a canonical string.
 */
export function canonicalString(
  method: string,
  target: string,
  timestamp: string,
  nonce: string,
  bodySha256Hex: string,
): string {
  return nonce === ''
    ? `${method}\n${target}\n${timestamp}\n${bodySha256Hex}`
    : `${method}\n${target}\n${timestamp}\n${nonce}\n${bodySha256Hex}`;
}

/** Unix seconds of a timestamp header: 1 to 12 decimal digits and nothing else; -1 when it is anything else. */
export function parseTimestamp(value: string): number {
  const length = value.length;
  if (length === 0 || length > 12) return -1;
  let seconds = 0;
  for (let i = 0; i < length; i++) {
    const digit = value.charCodeAt(i) - 48;
    if (digit < 0 || digit > 9) return -1;
    seconds = seconds * 10 + digit;
  }
  return seconds;
}

/** Whether a value is exactly 64 lower-case hex digits: a signature, or a declared body digest. */
export function isSignatureHex(value: string): boolean {
  if (value.length !== 64) return false;
  for (let i = 0; i < 64; i++) {
    const code = value.charCodeAt(i);
    if (!((code >= 48 && code <= 57) || (code >= 97 && code <= 102))) return false;
  }
  return true;
}

/** Whether a value may be a nonce: 1 to 64 visible ASCII characters. An absent header is '' and is no nonce. */
export function isNonce(value: string): boolean {
  if (value.length === 0 || value.length > 64) return false;
  for (let i = 0, { length } = value; i < length; i++) {
    const code = value.charCodeAt(i);
    if (code < 0x21 || code > 0x7e) return false;
  }
  return true;
}

/**
 * The secret of a token (its whole plaintext, UTF-8) in the form to cache: a fifth less CPU per signature than the
 * text, and one that neither a log line nor `JSON.stringify` can show.
 */
export function hmacKey(secret: string): KeyObject {
  return createSecretKey(secret, 'utf8');
}

const expectedText = Buffer.alloc(64);
const presentedText = Buffer.alloc(64);

/**
 * Whether `signatureHex` signs this request under `secret`; in constant time for any well-formed signature, and false,
 * never a throw, for a malformed one. The other parts are expected to have passed their own checks.
 */
export function signatureMatches(
  secret: KeyObject | Buffer | string,
  method: string,
  target: string,
  timestamp: string,
  nonce: string,
  bodySha256Hex: string,
  signatureHex: string,
): boolean {
  if (!isSignatureHex(signatureHex)) return false;
  const expected = createHmac('sha256', secret)
    .update(canonicalString(method, target, timestamp, nonce, bodySha256Hex))
    .digest('hex');
  // Hex text is compared, not the bytes: making a digest Buffer costs more than the HMAC itself.
  expectedText.write(expected, 0, 64, 'latin1');
  presentedText.write(signatureHex, 0, 64, 'latin1');
  return timingSafeEqual(expectedText, presentedText);
}

/** First millisecond (Unix, on Redis' clock) at which a request with this timestamp is admitted. */
export function notBeforeMs(timestampS: number): number {
  return timestampS * 1000 - hmacSkewMs;
}

/** Last millisecond (Unix, on Redis' clock) at which a request with this timestamp is admitted. */
export function notAfterMs(timestampS: number): number {
  return timestampS * 1000 + hmacSkewMs;
}

/**
 * Millisecond (Unix) until which a used signature is remembered: a second longer than its timestamp is admitted. Redis
 * counts a key's life from when a script began and a clock may be set back a little; without the margin there would be
 * an instant at which a request is still admitted and its claim already forgotten.
 */
export function claimUntilMs(timestampS: number): number {
  return notAfterMs(timestampS) + claimMarginMs;
}

/**
 * What a request uses up, 32 bytes as hex, a member of the set `keys.replay`. It is the signature, with or without a
 * nonce: the nonce is signed, and only one spelling of a signature is accepted, so no second claim exists for the same
 * request. Tokens share sets: a signature that holds under the secrets of two of them is as hard to make as a forged one.
 */
export function claimOf(signatureHex: string): string {
  return signatureHex;
}
