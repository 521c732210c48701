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

type Fact = keyof OriginalRequest;

/** What a field tells. */
interface Teller {
  /** `url` tells scheme, host and target at once. */
  readonly fact: Fact | 'url';
  /** A list that may stand in several lines; everything else is one value. */
  readonly isList: boolean;
  /** Set in the mask of the fields that were there. */
  readonly bit: number;
}

/** Field names in lower case. */
const factsByName: Readonly<Record<string, Fact | 'url'>> = {
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
  readonly #tellers: ReadonlyMap<string, Teller>;
  readonly #others: (name: string, value: string) => void;
  #original = new OriginalRequest();
  #fault: Denial | undefined;
  /** Bits of the fields that were there. */
  #seen = 0;

  /** `others` gets every field that tells nothing of the original request: credentials, framing and the rest. */
  constructor(hmacPrefix: string, others: (name: string, value: string) => void) {
    const facts = { ...factsByName, [`${hmacPrefix.toLowerCase()}content-sha256`]: 'contentSha256' as const };
    this.#tellers = new Map(
      Object.entries(facts).map(([name, fact], place) => [
        name,
        { fact, isList: name === 'x-forwarded-for', bit: 1 << place },
      ]),
    );
    this.#others = others;
  }

  begin(original: OriginalRequest): void {
    this.#original = original;
    this.#fault = undefined;
    this.#seen = 0;
  }

  /** Bound once, so that the binding's loop needs no closure a request. */
  readonly field = (name: string, value: string): void => {
    const teller = this.#tellers.get(name);
    if (teller === undefined) return this.#others(name, value);
    if (!isFieldValue(value)) return this.#refuse(faults.value);
    if ((this.#seen & teller.bit) !== 0) {
      if (teller.isList) this.#original.forwardedFor += `, ${value}`;
      else this.#refuse(faults.repeated);
      return;
    }
    this.#seen |= teller.bit;
    if (teller.fact === 'url') this.#takeUrl(value);
    else this.#take(teller.fact, value);
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

  /** Spelt out by fact: an assignment whose name is known only when it runs takes V8 several times as long. */
  #take(fact: Fact, value: string): void {
    if (value === '') return;
    const original = this.#original;
    switch (fact) {
      case 'method':
        original.method = this.#agreed(original.method, value);
        return;
      case 'target':
        original.target = this.#agreed(original.target, value);
        return;
      case 'host':
        original.host = this.#agreed(original.host, value);
        return;
      case 'scheme':
        original.scheme = this.#agreed(original.scheme, value);
        return;
      case 'forwardedFor':
        original.forwardedFor = this.#agreed(original.forwardedFor, value);
        return;
      case 'contentSha256':
        original.contentSha256 = this.#agreed(original.contentSha256, value);
        return;
    }
  }

  /** What is known of a fact when `value` was told of it: two that differ are a contradiction. */
  #agreed(known: string, value: string): string {
    if (known !== '' && known !== value) this.#refuse(faults.contradiction);
    return known === '' ? value : known;
  }

  #refuse(denial: Denial): void {
    this.#fault ??= denial;
  }
}

/** Whether the hop nearest to the proxy, the one it saw itself, is an address. */
function endsWithAddress(forwardedFor: string): boolean {
  return parseHop(forwardedFor.slice(forwardedFor.lastIndexOf(',') + 1)) !== notAnAddress;
}
