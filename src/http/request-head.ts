/**
 * The strict reading of a request's head (contract: one sound HTTP/1.1 request or 400).
 *
 * The HTTP binding is lenient: it lets through repeated and empty framing fields, bytes no value may hold, names that
 * a backend folds into others. Everything is judged here, before anything is spent on the request, and what is kept
 * is what is forwarded: a field is either understood, passed on unchanged, or dropped.
 *
 * Hot path: fields arrive one by one in one callback; one Map look-up a field, no regular expression, no second pass.
 */
import { deny, type Denial } from '../core/problems.js';
import { type HeaderClassifier, headerClass } from './drop-list.js';
import { isFieldValue, parseConnectionOptions } from './field.js';
import { isValidHost } from './host.js';
import { saneRequestId } from './request-id.js';

const allowedMethods = 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS';
const methodSet = new Set(allowedMethods.split(', '));

const malformed = {
  value: deny('malformed-request', 'A header value holds a byte that is not visible ASCII, space or tab.'),
  host: deny('malformed-request', 'Exactly one valid Host header is needed.'),
  repeated: deny('malformed-request', 'A header that may stand once was sent more than once.'),
  contentLength: deny('malformed-request', 'Content-Length must be one plain decimal number.'),
  lengthAndEncoding: deny('malformed-request', 'Content-Length and Transfer-Encoding exclude each other.'),
  transferEncoding: deny('malformed-request', 'Transfer-Encoding must not be empty or repeated.'),
  name: deny('malformed-request', 'A header name holds a character that no name may hold.'),
  alias: deny('malformed-request', 'A header name imitates Content-Length or Transfer-Encoding.'),
  headBody: deny('malformed-request', 'A HEAD request carries no body.'),
};
const lengthRequired = deny('length-required', 'Send the body with Content-Length; Transfer-Encoding is not accepted.');
const methodNotAllowed = deny('method-not-allowed', 'This method is never forwarded.', { allow: allowedMethods });

/** `contentLength` of a body whose length is not known in advance (chunked, from a trusted proxy). */
export const chunkedLength = -1;

/** One request's head, filled field by field. Absent fields are ''. */
export class RequestHead {
  method = '';
  /** The socket's peer, as text. */
  peer = '';
  peerTrusted = false;
  host = '';
  /** Bytes of body to come: 0 none, {@link chunkedLength} unknown. */
  contentLength = 0;
  /** Flat name, value, …: end-to-end fields that go upstream as they came. */
  readonly forwarded: string[] = [];
  authorization = '';
  hasAuthorization = false;
  apiKey = '';
  hasApiKey = false;
  hmacToken = '';
  hmacTimestamp = '';
  hmacSignature = '';
  hmacNonce = '';
  hasHmac = false;
  hasHmacNonce = false;
  /** HTTP Message Signatures (RFC 9421). */
  signatureInput = '';
  hasSignatureInput = false;
  signature = '';
  hasSignature = false;
  requestId = '';
  userAgent = '';
  /** X-Forwarded-* as sent; believed only from a trusted peer. */
  forwardedFor = '';
  forwardedProto = '';
  forwardedHost = '';
  /** The client asked that the connection be closed after this exchange. */
  close = false;
  connection = '';
  hasContentLength = false;
  hasTransferEncoding = false;
  transferEncoding = '';
  contentLengthText = '';
  /** Classes of fields that may stand once and were there: bit n is class n. */
  seen = 0;
  /** The first fault found. */
  fault: Denial | undefined;

  get hasMessageSignature(): boolean {
    return this.hasSignatureInput || this.hasSignature;
  }

  /** A signature came, of whichever form: it covers the body, which is then read whole. */
  get isSigned(): boolean {
    return this.hasHmac || this.hasMessageSignature;
  }

  /**
   * Value of an end-to-end field by its lower-case name, several lines joined by a comma (RFC 9110 section 5.3);
   * undefined when it is absent, a credential, or says something that only proxies may say.
   */
  fieldValue(name: string): string | undefined {
    if (name === 'host') return this.host;
    if (name === 'content-length') return this.hasContentLength ? this.contentLengthText : undefined;
    let joined: string | undefined;
    for (let at = 0; at < this.forwarded.length; at += 2) {
      if (this.forwarded[at] !== name) continue;
      const value = (this.forwarded[at + 1] as string).trim();
      joined = joined === undefined ? value : `${joined}, ${value}`;
    }
    return joined;
  }
}

/** Takes fields as the binding reports them (names lower-cased) and judges the whole. */
export class RequestHeadReader {
  readonly #classify: HeaderClassifier;
  readonly #apiKeyHeader: boolean;
  #head = new RequestHead();

  /** `apiKeyHeader`: X-API-Key is a credential; otherwise it is a field like any other and the upstream's business. */
  constructor(classify: HeaderClassifier, apiKeyHeader: boolean) {
    this.#classify = classify;
    this.#apiKeyHeader = apiKeyHeader;
  }

  begin(head: RequestHead): void {
    this.#head = head;
  }

  /** Bound once, so that the binding's loop needs no closure a request. */
  readonly field = (name: string, value: string): void => {
    const head = this.#head;
    const kind = this.#classify(name);
    if (kind === headerClass.drop) return;
    if (!isFieldValue(value)) {
      head.fault ??= malformed.value;
      return;
    }
    switch (kind) {
      case headerClass.forward:
        head.forwarded.push(name, value);
        return;
      case headerClass.host:
        takeOnce(head, kind, malformed.host);
        if (!isValidHost(value)) head.fault ??= malformed.host;
        head.host = value;
        return;
      case headerClass.authorization:
        takeOnce(head, kind, malformed.repeated);
        head.hasAuthorization = true;
        head.authorization = value;
        return;
      case headerClass.apiKey:
        if (!this.#apiKeyHeader) {
          head.forwarded.push(name, value);
          return;
        }
        takeOnce(head, kind, malformed.repeated);
        head.hasApiKey = true;
        head.apiKey = value;
        return;
      case headerClass.contentLength:
        takeOnce(head, kind, malformed.contentLength);
        head.hasContentLength = true;
        head.contentLengthText = value;
        return;
      case headerClass.transferEncoding:
        takeOnce(head, kind, malformed.transferEncoding);
        head.hasTransferEncoding = true;
        head.transferEncoding = value;
        return;
      case headerClass.connection:
        head.connection = withLine(head.connection, value);
        return;
      case headerClass.requestId:
        if (head.requestId === '' && saneRequestId(value)) head.requestId = value;
        return;
      case headerClass.userAgent:
        head.userAgent = value;
        head.forwarded.push(name, value);
        return;
      case headerClass.forwardedFor:
        head.forwardedFor = withLine(head.forwardedFor, value);
        return;
      // Of the next two only one value means something: a list of several is believed by nobody.
      case headerClass.forwardedProto:
        head.forwardedProto = withLine(head.forwardedProto, value);
        return;
      case headerClass.forwardedHost:
        head.forwardedHost = withLine(head.forwardedHost, value);
        return;
      case headerClass.hmacToken:
        takeOnce(head, kind, malformed.repeated);
        head.hasHmac = true;
        head.hmacToken = value;
        return;
      case headerClass.hmacTimestamp:
        takeOnce(head, kind, malformed.repeated);
        head.hasHmac = true;
        head.hmacTimestamp = value;
        return;
      case headerClass.hmacSignature:
        takeOnce(head, kind, malformed.repeated);
        head.hasHmac = true;
        head.hmacSignature = value;
        return;
      case headerClass.hmacNonce:
        takeOnce(head, kind, malformed.repeated);
        head.hasHmac = true;
        head.hasHmacNonce = true;
        head.hmacNonce = value;
        return;
      case headerClass.hmacContentSha256:
        // Speaks for the body where it cannot be seen; here the body itself is hashed.
        return;
      case headerClass.signatureInput:
        if (head.hasSignatureInput) head.fault ??= malformed.repeated;
        head.hasSignatureInput = true;
        head.signatureInput = value;
        return;
      case headerClass.signature:
        if (head.hasSignature) head.fault ??= malformed.repeated;
        head.hasSignature = true;
        head.signature = value;
        return;
      case headerClass.contentDigest:
        // It describes the body, which goes on as it came.
        head.forwarded.push(name, value);
        return;
      case headerClass.framingAlias:
        head.fault ??= malformed.alias;
        return;
      case headerClass.invalidName:
        head.fault ??= malformed.name;
        return;
    }
  };

  /** Judges what the fields amount to. Answers the first fault found, undefined for a sound head. */
  finish(): Denial | undefined {
    const head = this.#head;
    if (head.fault !== undefined) return head.fault;
    if (head.host === '') return malformed.host;
    const method = methodFault(head.method);
    if (method !== undefined) return method;
    const framing = takeFraming(head);
    if (framing !== undefined) return framing;
    if (head.contentLength !== 0 && head.method === 'HEAD') return malformed.headBody;
    if (head.connection !== '') applyConnection(head);
    return undefined;
  }
}

/** RFC 9112 section 6: one length, or one chunked coding from a peer that re-frames, never both. */
function takeFraming(head: RequestHead): Denial | undefined {
  if (head.hasTransferEncoding) {
    if (head.hasContentLength) return malformed.lengthAndEncoding;
    if (head.transferEncoding === '') return malformed.transferEncoding;
    if (!head.peerTrusted || head.transferEncoding.toLowerCase() !== 'chunked') return lengthRequired;
    head.contentLength = chunkedLength;
    return undefined;
  }
  if (!head.hasContentLength) return undefined;
  const length = decimal(head.contentLengthText);
  if (length < 0) return malformed.contentLength;
  head.contentLength = length;
  return undefined;
}

/** Notes a field that may stand once; a second one, whatever the first held, is `fault`. */
function takeOnce(head: RequestHead, kind: number, fault: Denial): void {
  const bit = 1 << kind;
  if ((head.seen & bit) !== 0) head.fault ??= fault;
  head.seen |= bit;
}

/** Several lines of one list field (RFC 9110 section 5.3). */
function withLine(before: string, value: string): string {
  return before === '' ? value : `${before}, ${value}`;
}

/** The refusal of a method that is never passed on, whatever the policy says; undefined for the others. */
export function methodFault(method: string): Denial | undefined {
  return methodSet.has(method) ? undefined : methodNotAllowed;
}

/** RFC 9110 section 7.6.1: fields the Connection header names are for this hop only. */
function applyConnection(head: RequestHead): void {
  const options = parseConnectionOptions(head.connection);
  if (options.length === 0) return;
  const fields = head.forwarded;
  let kept = 0;
  for (let at = 0; at < fields.length; at += 2) {
    if (options.includes(fields[at] as string)) continue;
    fields[kept] = fields[at] as string;
    fields[kept + 1] = fields[at + 1] as string;
    kept += 2;
  }
  fields.length = kept;
  head.close = options.includes('close');
}

/** A plain decimal number of at most 15 digits, or -1. */
function decimal(text: string): number {
  if (text.length === 0 || text.length > 15) return -1;
  let value = 0;
  for (let at = 0, { length } = text; at < length; at++) {
    const digit = text.charCodeAt(at) - 48;
    if (digit < 0 || digit > 9) return -1;
    value = value * 10 + digit;
  }
  return value;
}
