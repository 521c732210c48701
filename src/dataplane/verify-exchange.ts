/** A request that a proxy holds and asks about: the answer is the decision, and the proxy acts on it. */
import { deny, type Denial } from '../core/problems.js';
import { isSignatureHex } from '../credential/hmac.js';
import type { TrustedProxies } from '../http/forwarded.js';
import type { OriginalRequest } from '../http/original-request.js';
import { methodFault } from '../http/request-head.js';
import { Exchange } from './exchange.js';

/**
 * Who asks. nginx' `auth_request` takes 2xx, 401 and 403 and turns everything else into 500; Envoy's `ext_authz` removes
 * a field only when it is told to.
 */
export type Asker = 'plain' | 'nginx' | 'envoy';

const malformedDigest = deny('invalid-signature', 'The declared SHA-256 of the body must be 64 lower-case hex digits.');

export class VerifyExchange extends Exchange {
  override readonly isQuestion = true;
  asker: Asker = 'plain';
  /** Name of the header that tells the upstream which digest was signed. */
  digestHeader = '';
  /** The verify request itself is unsound, so its connection is not used again. */
  unsound = false;

  /** Takes over what the proxy says of the original request; answers the refusal when that alone is reason for one. */
  take(original: OriginalRequest, trustedProxies: TrustedProxies): Denial | undefined {
    const { head } = this;
    this.method = original.method;
    // Unknown is not the proxy's own address, which an allow-list may well hold.
    this.clientAddress =
      original.forwardedFor === '' ? '' : trustedProxies.clientAddress(head.peer, original.forwardedFor);
    this.secure = original.scheme === 'https';
    this.host = original.host;
    // What a signature may cover; the question's own says nothing of the client.
    head.host = original.host;
    this.targetAsSent = original.target;
    if (head.hasHmac && original.contentSha256 !== '') {
      // The body is not visible here: the client declares its digest, signs it, and the upstream can check it.
      if (!isSignatureHex(original.contentSha256)) return malformedDigest;
      this.bodySha256Hex = original.contentSha256;
    }
    return methodFault(original.method);
  }

  /** The request may pass: 200 with who is calling, the limit headers and, for a signature, the digest it covers. */
  override admitted(): void {
    const { token } = this;
    const { isSigned } = this.head;
    let fields = '';
    if (this.asker === 'envoy' && !isSigned) fields = `\r\nX-Envoy-Auth-Headers-To-Remove: ${this.digestHeader}`;
    if (token !== undefined) {
      fields += token.identityFields;
      if (isSigned) fields += `\r\n${this.digestHeader}: ${this.bodySha256Hex}`;
    }
    this.answer(200, 'ok', '', '', 0, false, fields);
  }

  /** What is wrong with the original request is no reason to close the connection to the proxy. */
  override refuse(denial: Denial, _close: boolean): void {
    super.refuse(denial, this.unsound);
  }

  protected override statusSent(status: number): number {
    return this.asker !== 'nginx' || status === 200 || status === 401 ? status : 403;
  }

  /** What `auth_request_set` can take from a refusal: its true status, and its body, which nginx does not read. */
  protected override refusalFields(status: number, body: string): string {
    if (this.asker !== 'nginx') return '';
    const trueStatus = status === 401 || status === 403 ? '' : `\r\nX-Error-Status: ${status}`;
    return `${trueStatus}\r\nX-Error-Problem: ${headerSafe(body)}`;
  }
}

/** JSON in which everything but visible ASCII and spaces is escaped, so that it is a header value too. */
function headerSafe(json: string): string {
  return json.replace(/[^\x20-\x7e]/g, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}
