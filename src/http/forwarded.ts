/**
 * Who the client is and how it came, when a proxy may stand in between.
 *
 * X-Forwarded-* says what its sender wants it to say. It is believed only from peers on the operator's list, and of
 * X-Forwarded-For only the part that believed peers wrote: from the right, up to the first address that is not one of
 * them (the rule of nginx' `real_ip_recursive`). With an empty list, the default, the socket's peer is the client.
 */
import { AddressRanges, isAddressRange, notAnAddress, type ParsedAddress, parseAddress } from './address.js';
import { isValidHost } from './host.js';

export class TrustedProxies {
  readonly #ranges: AddressRanges;

  /** Addresses and CIDR ranges; a RangeError names the first that is neither. */
  constructor(ranges: readonly string[]) {
    this.#ranges = new AddressRanges(ranges);
  }

  /** Whether the socket's peer is a configured proxy. */
  trusts(peer: string): boolean {
    return !this.#ranges.isEmpty && this.#ranges.includes(parseAddress(peer));
  }

  /**
   * The client's address in canonical form, '' when the peer has none (a unix socket). `forwardedFor` is the value of
   * X-Forwarded-For, several lines joined by a comma in their order, '' when absent. A hop that is not an address
   * (`unknown`, a name) ends the search at the last good one.
   */
  clientAddress(peer: string, forwardedFor: string): string {
    let client = parseAddress(peer);
    if (forwardedFor === '') return client.text;
    let end = forwardedFor.length;
    while (end >= 0 && this.#ranges.includes(client)) {
      const comma = end === 0 ? -1 : forwardedFor.lastIndexOf(',', end - 1);
      const hop = parseHop(forwardedFor.slice(comma + 1, end));
      if (hop === notAnAddress) break;
      client = hop;
      end = comma;
    }
    return client.text;
  }

  /**
   * The scheme the client used. From a trusted peer it is X-Forwarded-Proto, and anything but exactly `https` counts as
   * http: a list or a typing error must not pass for a safe connection. Else it is the socket's own.
   */
  scheme(peer: string, forwardedProto: string, socketScheme: 'http' | 'https'): 'http' | 'https' {
    if (forwardedProto === '' || !this.trusts(peer)) return socketScheme;
    return forwardedProto.toLowerCase() === 'https' ? 'https' : 'http';
  }

  /** The host the client asked for: X-Forwarded-Host of a trusted peer when it is one valid host, else `host`. */
  host(peer: string, forwardedHost: string, host: string): string {
    if (forwardedHost === '' || !this.trusts(peer)) return host;
    return isValidHost(forwardedHost) ? forwardedHost : host;
  }
}

/** Allow-lists of tokens: each is compiled when it is first asked and kept as long as its record is. */
export class AddressList {
  readonly #compiled = new WeakMap<readonly string[], AddressRanges>();

  /**
   * Whether an address is on the list `entries` (addresses and CIDR ranges), which must not change afterwards. False
   * for what is not an address; a list with a damaged entry, which validation never lets in, admits nobody.
   */
  includes(entries: readonly string[], address: string): boolean {
    let ranges = this.#compiled.get(entries);
    if (ranges === undefined) {
      ranges = new AddressRanges(entries.every(isAddressRange) ? entries : []);
      this.#compiled.set(entries, ranges);
    }
    return ranges.includes(parseAddress(address));
  }
}

/**
 * What failed authentications of an address are counted under: itself (IPv4) or its /64 (IPv6). '' when it is not an
 * address.
 */
export function failureBucket(address: string): string {
  return parseAddress(address).network;
}

/** One entry of X-Forwarded-For; `notAnAddress` when it is none. */
export function parseHop(entry: string): ParsedAddress {
  return parseAddress(withoutPort(entry.trim()));
}

/** `10.0.0.1:4711` and `[::1]:4711`, as some proxies write a hop, without brackets and port. */
function withoutPort(hop: string): string {
  const colon = hop.indexOf(':');
  if (colon === -1) return hop;
  if (hop.charCodeAt(0) === 0x5b) {
    const end = hop.indexOf(']');
    const rest = hop.slice(end + 1);
    return end !== -1 && (rest === '' || isPortSuffix(rest)) ? hop.slice(1, end) : '';
  }
  return colon === hop.lastIndexOf(':') && isPortSuffix(hop.slice(colon)) ? hop.slice(0, colon) : hop;
}

/** `:` and 1 to 5 digits. */
function isPortSuffix(text: string): boolean {
  if (text.length < 2 || text.length > 6 || text.charCodeAt(0) !== 0x3a) return false;
  for (let at = 1; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code < 0x30 || code > 0x39) return false;
  }
  return true;
}
