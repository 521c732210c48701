/**
 * The msgpack of one batch, as lua/log-append.lua unpacks it.
 *
 * Written by hand because it is the most expensive part of the access log: msgpackr takes 2.0 us an entry, this 0.9 us
 * (bench/micro/access-log.ts), and half of the bytes. Two things make it fast: values that come again and again within
 * a batch (tenant, route, address, …) are sent once and named by their place, and the text grows as one Latin-1 string
 * that becomes bytes in a single copy.
 */
import { milliseconds, rfc3339, visibleText, type LogEntry } from './entry.js';

/** Bounds of the fields in UTF-16 units; what is longer is cut. */
const pathMax = 1024;
const userAgentMax = 256;
const fieldMax = 128;

const shortHeads = Array.from({ length: 32 }, (_, length) => String.fromCharCode(0xa0 | length));
const byteHeads = Array.from({ length: 256 }, (_, length) => `\xd9${String.fromCharCode(length)}`);
const plain = /^[\x20-\x7e]*$/;

/** Collects entries, gap records and uses; {@link finish} answers the msgpack `{texts, entries, gaps, uses}`. */
export class BatchText {
  readonly #places = new Map<string, string>();
  #texts = '';
  #entries = '';
  #entryCount = 0;
  #gaps = '';
  #gapCount = 0;
  #uses = '';
  #useCount = 0;

  /** `stream`: place of the entry's stream, from 1. */
  addEntry(entry: LogEntry, stream: number): void {
    this.#entryCount += 1;
    this.#entries +=
      arrayHead(16) +
      integer(stream) +
      this.#shared(rfc3339(entry.timeMs), fieldMax) +
      text(visibleText(entry.requestId, fieldMax)) +
      this.#shared(entry.tenant, fieldMax) +
      this.#shared(entry.tokenId, fieldMax) +
      this.#shared(entry.method, fieldMax) +
      text(visibleText(entry.path, pathMax)) +
      this.#shared(entry.route, pathMax) +
      this.#shared(`${entry.status}`, fieldMax) +
      this.#shared(entry.outcome, fieldMax) +
      text(milliseconds(entry.durationMs)) +
      text(milliseconds(entry.upstreamMs)) +
      text(`${entry.bytesIn}`) +
      text(`${entry.bytesOut}`) +
      this.#shared(entry.ip, fieldMax) +
      this.#shared(entry.userAgent, userAgentMax);
  }

  /** A record that `dropped` entries of `tenant` are missing. */
  addGap(stream: number, timeMs: number, tenant: string, dropped: number): void {
    this.#gapCount += 1;
    this.#gaps += arrayHead(4) + integer(stream) + text(rfc3339(timeMs)) + this.#shared(tenant, fieldMax);
    this.#gaps += text(`${dropped}`);
  }

  /** `calls` of a token; `usage`: place of its key, from 1. */
  addUse(usage: number, calls: number, lastMs: number, ip: string): void {
    this.#useCount += 1;
    this.#uses += arrayHead(4) + integer(usage) + integer(calls) + text(`${Math.floor(lastMs)}`);
    this.#uses += this.#shared(ip, fieldMax);
  }

  finish(): Buffer {
    return Buffer.from(
      arrayHead(4) +
        (arrayHead(this.#places.size) + this.#texts) +
        (arrayHead(this.#entryCount) + this.#entries) +
        (arrayHead(this.#gapCount) + this.#gaps) +
        (arrayHead(this.#useCount) + this.#uses),
      'latin1',
    );
  }

  /** The place of a value among the texts, which it joins the first time. */
  #shared(value: string, max: number): string {
    let place = this.#places.get(value);
    if (place === undefined) {
      place = integer(this.#places.size + 1);
      this.#places.set(value, place);
      this.#texts += text(visibleText(value, max));
    }
    return place;
  }
}

function arrayHead(length: number): string {
  return length < 16 ? String.fromCharCode(0x90 | length) : `\xdc${String.fromCharCode(length >> 8, length & 255)}`;
}

/** A whole number from 0 to 65535. */
function integer(value: number): string {
  return value < 128 ? String.fromCharCode(value) : `\xcd${String.fromCharCode(value >> 8, value & 255)}`;
}

/** A text of at most 65535 bytes in UTF-8; what is not ASCII is turned into its bytes, a character each. */
function text(value: string): string {
  const bytes = plain.test(value) ? value : Buffer.from(value, 'utf8').toString('latin1');
  const length = bytes.length;
  if (length < 32) return (shortHeads[length] as string) + bytes;
  if (length < 256) return (byteHeads[length] as string) + bytes;
  return `\xda${String.fromCharCode(length >> 8, length & 255)}${bytes}`;
}
