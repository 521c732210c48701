/**
 * IP addresses in the one form that is compared: four 32-bit words, IPv4 as IPv4-mapped IPv6.
 *
 * `::ffff:10.0.0.1` is 10.0.0.1 in every respect (a dual-stack socket reports it so), while a range of IPv6 addresses
 * never takes in an IPv4 one. Only the full notations are read: `10.1`, `010.0.0.1` or `0x7f.1` are not addresses here.
 *
 * Hot path: parsed addresses are kept in a small LRU, a comparison is four masked words.
 */
import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';
import { LRUCache } from 'lru-cache';

/** Longer texts are not looked at: the longest address is an IPv4-mapped one in full. */
const textMax = 45;

type Words = readonly [number, number, number, number];

export interface ParsedAddress {
  /** Canonical text, so that one client has one spelling: dotted IPv4, RFC 5952 IPv6. */
  readonly text: string;
  readonly words: Words;
  /** The address by itself (IPv4) or its /64 (IPv6), the least that one customer is given. */
  readonly network: string;
}

/** What {@link parseAddress} answers for every other text. */
export const notAnAddress: ParsedAddress = { text: '', words: [0, 0, 0, 0], network: '' };

const parsed = new LRUCache<string, ParsedAddress>({ max: 4096 });

/** Reads an address; {@link notAnAddress} when the text is not one. Never throws. */
export function parseAddress(text: string): ParsedAddress {
  let address = parsed.get(text);
  if (address !== undefined) return address;
  if (text.length > textMax) return notAnAddress;
  address = parseNow(text);
  parsed.set(text, address);
  return address;
}

function parseNow(text: string): ParsedAddress {
  if (isIP(text) === 0 || text.includes('%')) return notAnAddress;
  const address = ipaddr.process(text);
  const bytes = address.toByteArray();
  if (bytes.length === 4) {
    const canonical = bytes.join('.');
    return { text: canonical, words: [0, 0, 0xffff, wordAt(bytes, 0)], network: canonical };
  }
  const words: Words = [wordAt(bytes, 0), wordAt(bytes, 4), wordAt(bytes, 8), wordAt(bytes, 12)];
  const prefix = new ipaddr.IPv6([...bytes.slice(0, 8), 0, 0, 0, 0, 0, 0, 0, 0]);
  return { text: address.toString(), words, network: `${prefix.toString()}/64` };
}

function wordAt(bytes: readonly number[], at: number): number {
  const [a = 0, b = 0, c = 0, d = 0] = bytes.slice(at, at + 4);
  return ((a << 24) | (b << 16) | (c << 8) | d) >>> 0;
}

/** One range: network words and masks. */
interface Range {
  readonly words: Words;
  readonly masks: Words;
}

/** A compiled list of addresses and CIDR ranges. */
export class AddressRanges {
  readonly #ranges: readonly Range[];

  /** Throws a RangeError that names the first entry that is neither an address nor a CIDR range. */
  constructor(entries: readonly string[]) {
    this.#ranges = entries.map((entry) => {
      const range = parseRange(entry);
      if (range === undefined) throw new RangeError(`"${entry}" is neither an IP address nor a CIDR range`);
      return range;
    });
  }

  /** Nothing is in an empty list. */
  get isEmpty(): boolean {
    return this.#ranges.length === 0;
  }

  /** Whether the address is in one of the ranges; false for {@link notAnAddress}. */
  includes(address: ParsedAddress): boolean {
    if (this.isEmpty || address === notAnAddress) return false;
    const [a, b, c, d] = address.words;
    const isIpv4 = a === 0 && b === 0 && c === 0xffff;
    for (const { words, masks } of this.#ranges) {
      // `^` and `&` work on signed 32-bit integers; only whether the result is zero counts.
      const difference =
        ((a ^ words[0]) & masks[0]) |
        ((b ^ words[1]) & masks[1]) |
        ((c ^ words[2]) & masks[2]) |
        ((d ^ words[3]) & masks[3]);
      if (difference === 0 && (!isIpv4 || masks[2] === 0xffff_ffff)) return true;
    }
    return false;
  }
}

/** Whether a text is an address or a CIDR range that {@link AddressRanges} takes. */
export function isAddressRange(entry: string): boolean {
  return parseRange(entry) !== undefined;
}

function parseRange(entry: string): Range | undefined {
  const slash = entry.indexOf('/');
  const base = parseNow(slash === -1 ? entry : entry.slice(0, slash));
  if (base === notAnAddress) return undefined;
  const dotted = !entry.includes(':');
  let bits = 128;
  if (slash !== -1) {
    const digits = entry.slice(slash + 1);
    if (!/^(?:0|[1-9]\d{0,2})$/.test(digits) || Number(digits) > (dotted ? 32 : 128)) return undefined;
    bits = Number(digits) + (dotted ? 96 : 0);
  }
  return { words: base.words, masks: [maskOf(bits), maskOf(bits - 32), maskOf(bits - 64), maskOf(bits - 96)] };
}

/** A word whose first `bits` bits are set. */
function maskOf(bits: number): number {
  if (bits <= 0) return 0;
  return bits >= 32 ? 0xffff_ffff : (0xffff_ffff << (32 - bits)) >>> 0;
}
