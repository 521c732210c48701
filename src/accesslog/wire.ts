/**
 * The msgpack of one batch, as lua/log-append.lua unpacks it.
 *
 * Written by hand because it is the most expensive part of the access log: msgpackr takes 2.0 us an entry, this 0.9 us
 * (bench/micro/access-log.ts), and half of the bytes. Two things make it fast: values that come again and again within
 * a batch (tenant, route, address, …) are sent once and named by their place, and the text grows as one Latin-1 string
 * that becomes bytes in a single copy.
 */
import { hourMs, type Tally } from '../usage/tally.js';
import { gapOutcome, milliseconds, rfc3339, visibleText, type LogEntry } from './entry.js';

/** Bounds of the fields in UTF-16 units; what is longer is cut. */
const pathMax = 1024;
const userAgentMax = 256;
const fieldMax = 128;

const shortHeads = Array.from({ length: 32 }, (_, length) => String.fromCharCode(0xa0 | length));
const byteHeads = Array.from({ length: 256 }, (_, length) => `\xd9${String.fromCharCode(length)}`);
const plain = /^[\x20-\x7e]*$/;

/** Collects the parts of a batch; {@link finish} answers the msgpack `{texts, streams, entries, gaps, uses, finds}`. */
export class BatchText {
  readonly #places = new Map<string, string>();
  #texts = '';
  #streams = '';
  #streamCount = 0;
  #entries = '';
  #entryCount = 0;
  #gaps = '';
  #gapCount = 0;
  #uses = '';
  #useCount = 0;
  #finds = '';
  #findCount = 0;

  /**
   * `count` records of the batch go to the stream, numbered from `first` by `writer`; their entries arrived at
   * `oldestMs` or later. `expireAt` is Unix time in s; `usage`: place of the usage of its tenant, from 1, 0 without one.
   */
  addStream(expireAt: number, writer: string, first: number, count: number, oldestMs: number, usage: number): void {
    this.#streamCount += 1;
    this.#streams += arrayHead(6) + integer(expireAt) + text(`${writer}:${first}:${count}`);
    this.#streams += text(writer) + integer(first + count - 1) + integer(Math.floor(oldestMs)) + integer(usage);
  }

  /** `stream`: place of the entry's stream, from 1. */
  addEntry(entry: LogEntry, stream: number): void {
    this.#entryCount += 1;
    this.#entries +=
      arrayHead(16) +
      integer(stream) +
      this.#shared(rfc3339(entry.timeMs), fieldMax) +
      shown(entry.requestId, fieldMax) +
      this.#shared(entry.tenant, fieldMax) +
      this.#shared(entry.tokenId, fieldMax) +
      this.#shared(entry.method, fieldMax) +
      shown(entry.path, pathMax) +
      this.#shared(entry.route, pathMax) +
      this.#shared(`${entry.status}`, fieldMax) +
      this.#shared(entry.outcome, fieldMax) +
      headed(milliseconds(entry.durationMs)) +
      headed(milliseconds(entry.upstreamMs)) +
      headed(`${entry.bytesIn}`) +
      headed(`${entry.bytesOut}`) +
      this.#shared(entry.ip, fieldMax) +
      this.#shared(entry.userAgent, userAgentMax);
  }

  /** A record that `dropped` entries of `tenant` are missing. */
  addGap(stream: number, timeMs: number, tenant: string, dropped: number): void {
    this.#gapCount += 1;
    this.#gaps += arrayHead(5) + integer(stream) + text(rfc3339(timeMs)) + this.#shared(tenant, fieldMax);
    this.#gaps += this.#shared(gapOutcome, fieldMax) + text(`${dropped}`);
  }

  /** `usage`: place of the keys of its token or tenant, from 1. */
  addUse(usage: number, tally: Tally): void {
    this.#useCount += 1;
    this.#uses += arrayHead(2) + integer(usage) + headed(usageRecord(tally));
  }

  /**
   * The index at place `index` (from 1) is of the token's entries in the stream at place `stream`; `usage`: place of the
   * token's usage, from 1, 0 without one.
   */
  addFind(index: number, stream: number, tokenId: string, usage: number): void {
    this.#findCount += 1;
    this.#finds += arrayHead(4) + integer(index) + integer(stream) + this.#shared(tokenId, fieldMax) + integer(usage);
  }

  finish(): Buffer {
    return Buffer.from(
      arrayHead(6) +
        (arrayHead(this.#places.size) + this.#texts) +
        (arrayHead(this.#streamCount) + this.#streams) +
        (arrayHead(this.#entryCount) + this.#entries) +
        (arrayHead(this.#gapCount) + this.#gaps) +
        (arrayHead(this.#useCount) + this.#uses) +
        (arrayHead(this.#findCount) + this.#finds),
      'latin1',
    );
  }

  /** The place of a value among the texts, which it joins the first time. */
  #shared(value: string, max: number): string {
    let place = this.#places.get(value);
    if (place === undefined) {
      place = integer(this.#places.size + 1);
      this.#places.set(value, place);
      this.#texts += shown(value, max);
    }
    return place;
  }
}

function arrayHead(length: number): string {
  return length < 16 ? String.fromCharCode(0x90 | length) : `\xdc${String.fromCharCode(length >> 8, length & 255)}`;
}

/** What a tally adds to the usage of its token or tenant, as lua/log-append.lua and src/usage/recent.ts read it. */
export function usageRecord({ hour, sums, calls, lastMs, ip, userAgent, routes }: Tally): string {
  let record = arrayHead(7) + integer(hour) + mapHead(sums.length / 2);
  for (const part of sums) record += typeof part === 'number' ? integer(part) : text(part);
  record +=
    integer(calls) + integer(Math.floor(lastMs) % hourMs) + shown(ip, fieldMax) + shown(userAgent, userAgentMax);
  record += arrayHead(routes.length);
  for (const part of routes) record += typeof part === 'number' ? integer(part) : shown(part, pathMax);
  return record;
}

function mapHead(length: number): string {
  return length < 16 ? String.fromCharCode(0x80 | length) : `\xde${String.fromCharCode(length >> 8, length & 255)}`;
}

/** A whole number from 0 to 2^53. */
function integer(value: number): string {
  if (value < 128) return String.fromCharCode(value);
  if (value < 65_536) return `\xcd${String.fromCharCode(value >> 8, value & 255)}`;
  const low = fourBytes(value % 2 ** 32);
  return value < 2 ** 32 ? `\xce${low}` : `\xcf${fourBytes(Math.floor(value / 2 ** 32))}${low}`;
}

function fourBytes(value: number): string {
  return String.fromCharCode(value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255);
}

/** A text of at most 65535 bytes in UTF-8; what is not ASCII is turned into its bytes, a character each. */
function text(value: string): string {
  return headed(plain.test(value) ? value : Buffer.from(value, 'utf8').toString('latin1'));
}

/** A value of a stranger's, cut and freed of what is not visible. */
function shown(value: string, max: number): string {
  return value.length <= max && plain.test(value) ? headed(value) : text(visibleText(value, max));
}

/** Bytes, a character each, behind their length: a text, since Redis' cmsgpack knows no other. */
function headed(bytes: string): string {
  const { length } = bytes;
  if (length < 32) return (shortHeads[length] as string) + bytes;
  if (length < 256) return (byteHeads[length] as string) + bytes;
  if (length < 65_536) return `\xda${String.fromCharCode(length >> 8, length & 255)}${bytes}`;
  return `\xdb${fourBytes(length)}${bytes}`;
}
