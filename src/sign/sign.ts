/**
 * Signs requests for Tollkeeper (docs/hmac.md). Published as `tollkeeper/sign`; needs nothing but Node itself, and
 * shares no code with the verifier on purpose: the published test vectors hold both to the same rules.
 */
import { createHash, createHmac, randomBytes } from 'node:crypto';

export interface RequestToSign {
  /** The whole plaintext of the token, as shown once at its creation. */
  readonly secret: string;
  /** As sent, so in upper case. */
  readonly method: string;
  /** An absolute URL, signed as `fetch` would send it, or a target (`/path?query`), signed byte for byte. */
  readonly url: string | URL;
  /** Text is signed as UTF-8. Default: no body. */
  readonly body?: string | Uint8Array;
  /** Unix seconds. Default: now. */
  readonly timestamp?: number;
  /** 1 to 64 visible ASCII characters; '' signs without one. Default: a random one. */
  readonly nonce?: string;
  /** Default: `X-Tollkeeper-`. */
  readonly headerPrefix?: string;
  /** Also sends the body's digest in `<prefix>Content-SHA256`, for set-ups where Tollkeeper does not see the body. */
  readonly declareBody?: boolean;
}

export interface SignedRequest {
  /** Add these to the request; it must be sent within 300 seconds and only once. */
  readonly headers: Readonly<Record<string, string>>;
  /** What was signed, without the secret: compare it with the other side when a signature is refused. */
  readonly canonicalString: string;
}

/**
 * Signs one request.
 * @throws TypeError when a part cannot be sent or signed; the message never holds the secret.
 */
export function signRequest(request: RequestToSign): SignedRequest {
  const { secret, method, body = '', nonce = randomBytes(16).toString('base64url') } = request;
  const timestamp = request.timestamp ?? Math.floor(Date.now() / 1000);
  const prefix = request.headerPrefix ?? 'X-Tollkeeper-';
  const tokenId = tokenIdOf(secret);
  const target = targetOf(request.url);
  if (!/^[A-Z][A-Z-]*$/.test(method)) throw new TypeError('method must be in upper case, as it is sent');
  if (!Number.isSafeInteger(timestamp) || timestamp < 0 || timestamp > 999_999_999_999) {
    throw new TypeError('timestamp must be whole Unix seconds');
  }
  if (!/^[\x21-\x7e]{0,64}$/.test(nonce)) throw new TypeError('nonce must be at most 64 visible ASCII characters');
  if (!/^[A-Za-z0-9-]*$/.test(prefix)) throw new TypeError('headerPrefix must be letters, digits and dashes');

  const bodySha256 = createHash('sha256').update(body).digest('hex');
  const lines = [method, target, String(timestamp), ...(nonce === '' ? [] : [nonce]), bodySha256];
  const canonicalString = lines.join('\n');
  return {
    headers: {
      [`${prefix}Token`]: tokenId,
      [`${prefix}Timestamp`]: String(timestamp),
      ...(nonce === '' ? {} : { [`${prefix}Nonce`]: nonce }),
      ...(request.declareBody === true ? { [`${prefix}Content-SHA256`]: bodySha256 } : {}),
      [`${prefix}Signature`]: createHmac('sha256', secret).update(canonicalString).digest('hex'),
    },
    canonicalString,
  };
}

/** `<prefix>_<id>_<secret and checksum>`: the id is the last but one part. */
function tokenIdOf(secret: string): string {
  const id = /^[A-Za-z0-9_]+_([A-Za-z0-9]{12})_[A-Za-z0-9]{38}$/.exec(secret)?.[1];
  if (id === undefined) throw new TypeError('secret must be the whole token, <prefix>_<id>_<secret>, without spaces');
  return id;
}

function targetOf(url: string | URL): string {
  let target: string;
  if (typeof url === 'string' && url.startsWith('/')) {
    target = url;
  } else {
    let parsed: URL;
    try {
      parsed = new URL(url);
    } catch {
      // Without the cause: it would hold the text, which could be a secret in the wrong place.
      throw new TypeError('url must be an absolute URL or begin with /');
    }
    if (!/^https?:$/.test(parsed.protocol)) throw new TypeError('url must begin with http:// or https://');
    target = parsed.pathname + parsed.search;
  }
  if (!/^[\x21\x22\x24-\x7e]+$/.test(target)) {
    throw new TypeError('url must be percent-encoded: visible ASCII characters, no #');
  }
  return target;
}
