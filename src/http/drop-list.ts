/**
 * What the proxy does with each header field, by name: the one classification.
 *
 * Requests: what the client must not be able to say to the upstream is dropped, in every spelling that a backend may
 * fold together. Names arrive in lower case. Answers: {@link dropResponseHeader}.
 *
 * Hot path: a known name (the usual ones of browsers and clients are all listed) costs one Map look-up; another is read
 * once, character by character, and compared with a few prefixes.
 */
import { hasFoldableName, isFieldName } from './field.js';

/** Small integers, so that a switch over them is a jump table. */
export const headerClass = {
  /** Goes upstream as it came. */
  forward: 0,
  /** Left out, its value not even looked at. */
  drop: 1,
  host: 2,
  authorization: 3,
  apiKey: 4,
  contentLength: 5,
  transferEncoding: 6,
  connection: 7,
  requestId: 8,
  userAgent: 9,
  forwardedFor: 10,
  forwardedProto: 11,
  forwardedHost: 12,
  hmacToken: 13,
  hmacTimestamp: 14,
  hmacSignature: 15,
  hmacNonce: 16,
  hmacContentSha256: 17,
  /** RFC 9421; RFC 9530. */
  signatureInput: 18,
  signature: 19,
  contentDigest: 20,
  /** A name that a backend may fold into Content-Length or Transfer-Encoding: the request is refused. */
  framingAlias: 21,
  /** Not an RFC 9110 token: the request is refused. */
  invalidName: 22,
} as const;
type HeaderClass = (typeof headerClass)[keyof typeof headerClass];

/** Class of a request field name in lower case. */
export type HeaderClassifier = (lowerName: string) => HeaderClass;

/** Fields the pipeline itself reads. */
const understood: Readonly<Record<string, HeaderClass>> = {
  host: headerClass.host,
  authorization: headerClass.authorization,
  'x-api-key': headerClass.apiKey,
  'content-length': headerClass.contentLength,
  'transfer-encoding': headerClass.transferEncoding,
  connection: headerClass.connection,
  'x-request-id': headerClass.requestId,
  'user-agent': headerClass.userAgent,
  'x-forwarded-for': headerClass.forwardedFor,
  'x-forwarded-proto': headerClass.forwardedProto,
  'x-forwarded-host': headerClass.forwardedHost,
  'content-digest': headerClass.contentDigest,
};

/**
 * Ends at this hop (RFC 9110 section 7.6.1, RFC 7540 section 3.2.1). Expect too: the binding has answered it already.
 * `Proxy` would become HTTP_PROXY in a CGI environment (httpoxy, CVE-2016-5385).
 */
const hopByHop = [
  'keep-alive',
  'te',
  'trailer',
  'upgrade',
  'http2-settings',
  'expect',
  'proxy',
  // What an upgrade would need; without it a backend cannot take the request for one.
  'sec-websocket-key',
  'sec-websocket-version',
  'sec-websocket-protocol',
  'sec-websocket-extensions',
];
const hopByHopPrefixes = ['proxy-'];

/** Claims about the client's address, scheme or host, as proxies, clouds and application servers name them. */
const forwardingClaims = [
  'forwarded',
  'forwarded-for',
  'x-forwarded',
  'x-real-ip',
  'x-real-port',
  'real-ip',
  'true-client-ip',
  'client-ip',
  'x-client-ip',
  'x-cluster-client-ip',
  'x-remote-ip',
  'x-remote-addr',
  'remote-addr',
  'x-originating-ip',
  'x-proxyuser-ip',
  'wl-proxy-client-ip',
  'cf-connecting-ip',
  'cf-connecting-ipv6',
  'cf-pseudo-ipv4',
  'do-connecting-ip',
  'fastly-client-ip',
  'x-azure-clientip',
  'x-azure-socketip',
  'x-appengine-user-ip',
  'x-appengine-remote-addr',
  'x-envoy-external-address',
  'x-envoy-internal',
  'x-host',
  'x-http-host-override',
  'x-scheme',
  'x-url-scheme',
  'front-end-https',
];

/** Make a framework act on another URL than the one that was checked. */
const urlOverrides = [
  'x-rewrite-url',
  'x-rewrite-uri',
  'x-override-url',
  'x-http-destinationurl',
  'x-envoy-original-path',
  'x-envoy-original-dst-host',
];

/** Make a framework act on another method than the one that was checked. */
const methodOverrides = [
  'x-http-method',
  'x-http-method-override',
  'x-method-override',
  'x-method',
  'x-tunnel-method',
  'x-rewrite-method',
  'http-method-override',
  'method-override',
];

/** Everything a client may claim of itself, its address or its request, that is never its to say. */
export const clientClaims: readonly string[] = ['proxy', ...forwardingClaims, ...urlOverrides, ...methodOverrides];

/** All names that begin so are such claims too. */
export const clientClaimPrefixes: readonly string[] = ['x-forwarded-', 'x-original-'];

/** The identity that Tollkeeper itself gives to the upstream. */
const identityPrefix = 'x-tollkeeper-';

/** Named only so that one look-up ends it: they are what most requests carry. */
const usual = [
  'accept',
  'accept-charset',
  'accept-encoding',
  'accept-language',
  'access-control-request-headers',
  'access-control-request-method',
  'cache-control',
  'content-encoding',
  'content-language',
  'content-type',
  'cookie',
  'date',
  'dnt',
  'if-match',
  'if-modified-since',
  'if-none-match',
  'if-range',
  'if-unmodified-since',
  'idempotency-key',
  'origin',
  'pragma',
  'priority',
  'range',
  'referer',
  'sec-ch-ua',
  'sec-ch-ua-mobile',
  'sec-ch-ua-platform',
  'sec-fetch-dest',
  'sec-fetch-mode',
  'sec-fetch-site',
  'sec-fetch-user',
  'traceparent',
  'tracestate',
  'upgrade-insecure-requests',
  'via',
  'x-requested-with',
];

export interface HeaderClassifierOptions {
  /** Configured `hmacHeaderPrefix`, ending in a dash; case does not matter. */
  readonly hmacPrefix: string;
  /** Signature-Input and Signature are a credential; otherwise they are fields like any other. */
  readonly messageSignatures: boolean;
}

/** Builds the classification once; `hmacPrefix` is dropped like the identity prefix, but for the signature's fields. */
export function createHeaderClassifier(options: HeaderClassifierOptions): HeaderClassifier {
  const hmacPrefix = options.hmacPrefix.toLowerCase();
  const classes = new Map<string, HeaderClass>(usual.map((name) => [name, headerClass.forward]));
  for (const name of [...hopByHop, ...clientClaims]) {
    classes.set(name, headerClass.drop);
  }
  classes.set(`${hmacPrefix}token`, headerClass.hmacToken);
  classes.set(`${hmacPrefix}timestamp`, headerClass.hmacTimestamp);
  classes.set(`${hmacPrefix}signature`, headerClass.hmacSignature);
  classes.set(`${hmacPrefix}nonce`, headerClass.hmacNonce);
  classes.set(`${hmacPrefix}content-sha256`, headerClass.hmacContentSha256);
  // Last, so that no prefix can take a field of HTTP itself.
  for (const [name, kind] of Object.entries(understood)) classes.set(name, kind);
  if (options.messageSignatures) {
    classes.set('signature-input', headerClass.signatureInput);
    classes.set('signature', headerClass.signature);
  }
  const prefixes = [...new Set([...hopByHopPrefixes, ...clientClaimPrefixes, identityPrefix, hmacPrefix])];

  /** Class of a name that consists of letters, digits and dashes and is not in the Map. */
  const byPrefix = (name: string): HeaderClass => {
    for (const prefix of prefixes) if (name.startsWith(prefix)) return headerClass.drop;
    return headerClass.forward;
  };

  return (lowerName) => {
    const known = classes.get(lowerName);
    if (known !== undefined) return known;
    if (isPlainName(lowerName)) return byPrefix(lowerName);
    if (!isFieldName(lowerName)) return headerClass.invalidName;
    return classOfFoldable(lowerName, (folded) => classes.get(folded) ?? byPrefix(folded));
  };
}

/**
 * A name with `_`, `.` or another mark that CGI-like interfaces turn into the same letter as `-`. The first two are
 * always dropped; a rarer mark (lighttpd folds them all) only where the folded name means something.
 */
function classOfFoldable(name: string, classOf: HeaderClassifier): HeaderClass {
  const folded = name.replace(/[^a-z0-9]/g, '-');
  const meant = classOf(folded);
  if (meant === headerClass.contentLength || meant === headerClass.transferEncoding) return headerClass.framingAlias;
  return hasFoldableName(name) || (meant !== headerClass.forward && meant !== headerClass.userAgent)
    ? headerClass.drop
    : headerClass.forward;
}

/** Letters, digits and dashes only: the names no backend folds into others. */
function isPlainName(name: string): boolean {
  for (let at = 0, { length } = name; at < length; at++) {
    const code = name.charCodeAt(at);
    const isPlain = (code >= 0x61 && code <= 0x7a) || code === 0x2d || (code >= 0x30 && code <= 0x39);
    if (!isPlain) return false;
  }
  return name.length > 0;
}

const responseDrops = new Set([
  ...hopByHop,
  'connection',
  'content-length',
  'transfer-encoding',
  // The binding and the pipeline write these themselves.
  'date',
  'x-request-id',
  'ratelimit',
]);
const responseDropPrefixes = ['proxy-', 'ratelimit-', 'x-ratelimit-'];

/** Whether a field of the upstream's answer (name in lower case) is left out: hop-by-hop, framing, or ours to set. */
export function dropResponseHeader(lowerName: string): boolean {
  if (responseDrops.has(lowerName)) return true;
  for (const prefix of responseDropPrefixes) if (lowerName.startsWith(prefix)) return true;
  return false;
}
