/**
 * Finds the one credential of a request (RFC 6750 section 2.1; `X-API-Key` and the two forms of signatures beside it).
 * Never from the query or a cookie. More than one is refused: which of them counts must not be a guess.
 */
import { deny, type Denial } from '../core/problems.js';
import type { RequestHead } from '../http/request-head.js';
import { parseToken } from '../token/format.js';
import { sha256 } from './bearer.js';
import { emptyBodySha256, isNonce, isSignatureHex, isTokenId, parseTimestamp } from './hmac.js';
import { coverageGap, declaredSha256, type MessageSignature, parseMessageSignature } from './message-signature.js';

export interface BearerCredential {
  readonly kind: 'bearer';
  readonly id: string;
  /** SHA-256 of the presented token. */
  readonly digest: Buffer;
}

/** A token that another system issued; its id is found by its SHA-256. */
interface ForeignCredential {
  readonly kind: 'foreign';
  readonly digest: Buffer;
}

export interface HmacCredential {
  readonly kind: 'hmac';
  readonly id: string;
  /** Unix seconds, as sent and as a number. */
  readonly timestampText: string;
  readonly timestampS: number;
  readonly signature: string;
  readonly nonce: string;
}

/** A signature by RFC 9421. */
interface MessageSignatureCredential {
  readonly kind: 'message-signature';
  readonly id: string;
  /** `created`, Unix seconds. */
  readonly timestampS: number;
  /** Lower-case hex of the signature's bytes: one text, however they were spelt. */
  readonly signature: string;
  /** Lower-case hex: the body that is signed, as its Content-Digest says; the empty one when that is not covered. */
  readonly bodySha256Hex: string;
  readonly signed: MessageSignature;
}

/** Either form of a signed request. */
export type SignatureCredential = HmacCredential | MessageSignatureCredential;

export type Credential = BearerCredential | ForeignCredential | SignatureCredential;

export interface CredentialOptions {
  readonly tokenPrefix: string;
  readonly foreignTokens: boolean;
}

const ambiguous = deny('ambiguous-credentials', 'Send exactly one credential.');
const missing = deny('missing-credentials', 'This route needs a credential.');
export const invalidToken = deny('invalid-token', 'The token is unknown, incomplete or no longer valid.');
export const invalidSignature = deny('invalid-signature', 'The signature does not match this request.');
const staleTimestamp = deny('stale-timestamp', 'The timestamp must be unix seconds in decimal digits.');
const malformedId = deny('invalid-signature', 'The token header must hold the id of a token, 12 letters and digits.');
const malformedSignature = deny('invalid-signature', 'The signature must be 64 lower-case hex digits.');
const malformedNonce = deny('invalid-signature', 'The nonce must be 1 to 64 visible ASCII characters.');
const incompleteHmac = deny('invalid-signature', 'A signed request needs the token, timestamp and signature headers.');

/** Refusals of message signatures by their sentence, of which there are as many as the code has. */
const refusals = new Map<string, Denial>();

/** Foreign tokens outside these lengths are refused without asking Redis. */
const foreignLengthMin = 16;
const foreignLengthMax = 512;

/** The credential, or the refusal that says why there is none. Costs one SHA-256 and no look-up. */
export function extractCredential(head: RequestHead, options: CredentialOptions): Credential | Denial {
  const count =
    Number(head.hasAuthorization) + Number(head.hasApiKey) + Number(head.hasHmac) + Number(head.hasMessageSignature);
  if (count > 1) return ambiguous;
  if (count === 0) return missing;
  if (head.hasHmac) return hmacCredential(head);
  if (head.hasMessageSignature) return messageSignatureCredential(head);
  if (head.hasApiKey) return tokenCredential(head.apiKey, options);
  const token = bearerToken(head.authorization);
  return token === '' ? missing : tokenCredential(token, options);
}

export function isDenial(value: Credential | Denial): value is Denial {
  return 'problem' in value;
}

function tokenCredential(text: string, options: CredentialOptions): Credential | Denial {
  const parsed = parseToken(text, options.tokenPrefix);
  if (parsed !== null) return { kind: 'bearer', id: parsed.id, digest: sha256(text) };
  if (!options.foreignTokens || text.length < foreignLengthMin || text.length > foreignLengthMax) return invalidToken;
  // What carries our own prefix and fails its checksum is a broken token of ours, not a foreign one.
  if (text.startsWith(`${options.tokenPrefix}_`) || text.includes(' ')) return invalidToken;
  return { kind: 'foreign', digest: sha256(text) };
}

/** The token of `Bearer 1*SP token` (scheme in any case); '' for any other scheme or none. */
function bearerToken(value: string): string {
  if (value.length < 8 || value.charCodeAt(6) !== 0x20) return '';
  const scheme = value.slice(0, 6);
  if (scheme !== 'Bearer' && scheme.toLowerCase() !== 'bearer') return '';
  let from = 7;
  while (value.charCodeAt(from) === 0x20) from++;
  return value.slice(from);
}

function hmacCredential(head: RequestHead): HmacCredential | Denial {
  if (head.hmacToken === '' || head.hmacSignature === '' || head.hmacTimestamp === '') return incompleteHmac;
  const timestampS = parseTimestamp(head.hmacTimestamp);
  if (timestampS < 0) return staleTimestamp;
  if (!isTokenId(head.hmacToken)) return malformedId;
  if (!isSignatureHex(head.hmacSignature)) return malformedSignature;
  if (head.hasHmacNonce && !isNonce(head.hmacNonce)) return malformedNonce;
  return {
    kind: 'hmac',
    id: head.hmacToken,
    timestampText: head.hmacTimestamp,
    timestampS,
    signature: head.hmacSignature,
    nonce: head.hmacNonce,
  };
}

/** Everything that the request alone shows is judged here, so that no answer depends on whether the token exists. */
function messageSignatureCredential(head: RequestHead): MessageSignatureCredential | Denial {
  if (!head.hasSignature || !head.hasSignatureInput) {
    return unsigned('A message signature needs both Signature-Input and Signature.');
  }
  const signed = parseMessageSignature(head.signatureInput, head.signature);
  if ('refused' in signed) return unsigned(signed.refused);
  // A digest speaks of a body, also where the body itself is not visible (verify plane).
  const hasBody = head.contentLength !== 0 || head.fieldValue('content-digest') !== undefined;
  const gap = coverageGap(signed, hasBody);
  if (gap !== undefined) return unsigned(gap.refused);
  for (const name of signed.components) {
    if (!name.startsWith('@') && head.fieldValue(name) === undefined) {
      return unsigned('The signature covers a field that is absent, or that is not passed on to the upstream.');
    }
  }
  let bodySha256Hex = emptyBodySha256;
  if (signed.components.includes('content-digest')) {
    bodySha256Hex = declaredSha256(head.fieldValue('content-digest') as string);
    if (bodySha256Hex === '') return unsigned('Content-Digest must hold the sha-256 of the body, 32 bytes in base64.');
  }
  return {
    kind: 'message-signature',
    id: signed.keyId,
    timestampS: signed.createdS,
    signature: signed.signature.toString('hex'),
    bodySha256Hex,
    signed,
  };
}

function unsigned(detail: string): Denial {
  let denial = refusals.get(detail);
  if (denial === undefined) {
    denial = deny('invalid-signature', detail);
    refusals.set(detail, denial);
  }
  return denial;
}
