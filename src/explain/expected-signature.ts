/** What a signature of a request must be made over, and a signature of our own where one is to be assumed. */
import { createHmac } from 'node:crypto';
import type { HmacCredential, SignatureCredential } from '../credential/extract.js';
import { canonicalString } from '../credential/hmac.js';
import { type HmacSecrets, unreadable } from '../credential/hmac-secrets.js';
import { signatureBase } from '../credential/message-signature.js';
import { signedMessage } from '../credential/verify.js';
import type { PreparedToken } from '../token/cache.js';
import type { DescribedRequest } from './described-request.js';
import type { ExplainedSignature } from './explanation.js';

/** What `credential` must have signed, and whether it did. */
export function expectedOf(
  request: DescribedRequest,
  credential: SignatureCredential,
  matches: boolean | null,
): ExplainedSignature {
  if (credential.kind === 'hmac') {
    return { ...expectedHmac(request, credential.timestampText, credential.nonce), matches };
  }
  const base = signatureBase(credential.signed, signedMessage(request));
  return { form: 'rfc9421', canonicalString: base ?? '', matches };
}

/** The canonical string, where the signature itself is absent or malformed. `nowS` stands in for a timestamp. */
export function expectedFromHead(request: DescribedRequest, nowS: number): ExplainedSignature {
  const { hmacTimestamp, hmacNonce } = request.head;
  return expectedHmac(request, hmacTimestamp === '' ? String(nowS) : hmacTimestamp, hmacNonce);
}

function expectedHmac(request: DescribedRequest, timestamp: string, nonce: string): ExplainedSignature {
  const { method, targetAsSent, bodySha256Hex } = request;
  const text = canonicalString(method, targetAsSent, timestamp, nonce, bodySha256Hex);
  return { form: 'hmac', canonicalString: text, matches: null };
}

/** What the holder of the token would send now. It stays in this process: whoever sees it could use it. */
export function ownSignature(
  token: PreparedToken,
  secrets: HmacSecrets,
  request: DescribedRequest,
  nowS: number,
): HmacCredential {
  const timestampText = String(nowS);
  const key = secrets.current(token);
  const text = expectedHmac(request, timestampText, '').canonicalString;
  const signature = key === unreadable ? '' : createHmac('sha256', key).update(text).digest('hex');
  return { kind: 'hmac', id: token.id, timestampText, timestampS: nowS, signature, nonce: '' };
}
