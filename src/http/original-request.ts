/**
 * The request a proxy asks about, as the verify plane is told of it: X-Forwarded-Method, -Uri, -Host, -Proto and -For
 * (Traefik, Caddy), or X-Original-Method, -URI, -URL, -Host, -Proto and -For (nginx and others).
 *
 * What the proxy says decides who may do what, so a guess is never made: each fact may be said once by each of its
 * names, all that say it must agree, and method and target must be said. Host, scheme and address may be left out;
 * whatever depends on one of them is then refused (no HTTPS, no tenant by host, on no allow-list).
 *
 * Pure but for the one object that is filled; the peer is judged by the caller.
 */
import { deny, type Denial } from '../core/problems.js';
import { notAnAddress } from './address.js';
import { isFieldName, isFieldValue } from './field.js';
import { parseHop } from './forwarded.js';
import { isValidHost } from './host.js';

const faults = {
  value: deny('malformed-request', 'The proxy passed on a value that holds a byte other than visible ASCII.'),
  repeated: deny('malformed-request', 'A header that tells of the original request was sent more than once.'),
  contradiction: deny('malformed-request', 'Two headers that tell of the original request contradict each other.'),
  noMethod: deny('malformed-request', 'The proxy must say the method: X-Forwarded-Method or X-Original-Method.'),
  noTarget: deny(
    'malformed-request',
    'The proxy must say the path: X-Forwarded-Uri, X-Original-URI or X-Original-URL.',
  ),
  method: deny('malformed-request', 'The method the proxy asks about is not a method.'),
  target: deny('malformed-request', 'The target the proxy asks about must be a path with an optional query.'),
  url: deny('malformed-request', 'X-Original-URL must be a path, or an http or https URL with a path.'),
  host: deny('malformed-request', 'The host the proxy asks about is not a valid host.'),
  scheme: deny('malformed-request', 'The protocol the proxy tells must be exactly http or https.'),
  address: deny('malformed-request', "The last entry of X-Forwarded-For must be the client's address."),
};

/** What is known of the original request. Absent facts are ''. */
export class OriginalRequest {
  method = '';
  /** Path and query, byte for byte as the client sent them and as the proxy will send them. */
  target = '';
  host = '';
  /** `http`, `https` or '' when the proxy did not say. */
  scheme = '';
  /** All lines joined; how much of it is believed is for `TrustedProxies.clientAddress` to say. */
  forwardedFor = '';
  /** The declared digest of the body, as sent. */
  contentSha256 = '';
}

type Fact = 'method' | 'target' | 'url' | 'host' | 'scheme' | 'forwardedFor' | 'contentSha256';

/** Field names in lower case. */
const factsByName: Readonly<Record<string, Fact>> = {
  'x-forwarded-method': 'method',
  'x-original-method': 'method',
  'x-forwarded-uri': 'target',
  'x-original-uri': 'target',
  'x-original-url': 'url',
  'x-forwarded-host': 'host',
  'x-original-host': 'host',
  'x-forwarded-proto': 'scheme',
  'x-original-proto': 'scheme',
  'x-forwarded-for': 'forwardedFor',
  'x-original-for': 'forwardedFor',
};

/** Takes the fields of a verify request as the binding reports them (names in lower case) and judges the whole. */
export class OriginalRequestReader {
  readonly #facts: ReadonlyMap<string, Fact>;
  readonly #others: (name: string, value: string) => void;
  #original = new OriginalRequest();
  #fault: Denial | undefined;
  readonly #seen = new Set<string>();

  /** `others` gets every field that tells nothing of the original request: credentials, framing and the rest. */
  constructor(hmacPrefix: string, others: (name: string, value: string) => void) {
    this.#facts = new Map([
      ...Object.entries(factsByName),
      [`${hmacPrefix.toLowerCase()}content-sha256`, 'contentSha256'],
    ] as [string, Fact][]);
    this.#others = others;
  }

  begin(original: OriginalRequest): void {
    this.#original = original;
    this.#fault = undefined;
    this.#seen.clear();
  }

  /** Bound once, so that the binding's loop needs no closure a request. */
  readonly field = (name: string, value: string): void => {
    const fact = this.#facts.get(name);
    if (fact === undefined) return this.#others(name, value);
    if (!isFieldValue(value)) return this.#refuse(faults.value);
    if (this.#seen.has(name)) {
      // A list may stand in several lines; everything else is one value.
      if (name !== 'x-forwarded-for') this.#refuse(faults.repeated);
      else this.#original.forwardedFor += `, ${value}`;
      return;
    }
    this.#seen.add(name);
    if (fact === 'url') this.#takeUrl(value);
    else this.#take(fact, value);
  };

  /** The request line of the verify request is the original one (Envoy); call it before {@link finish}. */
  takeRequestLine(method: string, target: string): void {
    this.#take('method', method);
    this.#take('target', target);
  }

  /** Judges what was told. Answers the first fault found, undefined when the original request is known. */
  finish(): Denial | undefined {
    if (this.#fault !== undefined) return this.#fault;
    const { method, target, host, scheme, forwardedFor } = this.#original;
    if (method === '') return faults.noMethod;
    if (target === '') return faults.noTarget;
    if (!isFieldName(method)) return faults.method;
    if (!target.startsWith('/')) return faults.target;
    if (host !== '' && !isValidHost(host)) return faults.host;
    if (scheme !== '' && scheme !== 'http' && scheme !== 'https') return faults.scheme;
    if (forwardedFor !== '' && !endsWithAddress(forwardedFor)) return faults.address;
    return undefined;
  }

  /** An absolute URL says scheme, host and target at once (ingress-nginx); some proxies put the path alone there. */
  #takeUrl(value: string): void {
    if (value.startsWith('/')) return this.#take('target', value);
    const parts = /^(https?):\/\/([^/?#]+)(\/.*)$/.exec(value);
    if (parts === null) return this.#refuse(faults.url);
    this.#take('scheme', parts[1] as string);
    this.#take('host', parts[2] as string);
    this.#take('target', parts[3] as string);
  }

  #take(fact: Exclude<Fact, 'url'>, value: string): void {
    if (value === '') return;
    const known = this.#original[fact];
    if (known !== '' && known !== value) return this.#refuse(faults.contradiction);
    this.#original[fact] = value;
  }

  #refuse(denial: Denial): void {
    this.#fault ??= denial;
  }
}

/** Whether the hop nearest to the proxy, the one it saw itself, is an address. */
function endsWithAddress(forwardedFor: string): boolean {
  return parseHop(forwardedFor.slice(forwardedFor.lastIndexOf(',') + 1)) !== notAnAddress;
}
