/**
 * The one strict normalisation of a request path. What comes out is matched against the policy AND sent upstream, byte
 * for byte, so the two can never disagree about what was asked for.
 *
 * Refused, never repaired: dot segments in any encoding, empty segments (a trailing slash is one), `\` `;` `#` `?` and
 * `/` in encoded form, control characters, double encoding, escapes that are not valid UTF-8, and raw bytes that no URI
 * path may hold (RFC 3986 section 3.3). The only change made is the one RFC 3986 section 6.2.2 calls equivalent:
 * escapes of unreserved characters are decoded, the hex digits of all others are upper-case.
 *
 * Hot path: one pass over char codes with a table look-up each; a path without escapes (nearly all) is returned as the
 * same string. No regular expression, no allocation unless something changes.
 */

const slash = 0x2f;
const percent = 0x25;
const dot = 0x2e;

const refused = 0;
const plain = 1;
const decoded = 2;

const unreserved = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~';
/** May stand raw in a segment (RFC 3986 `pchar`) besides the unreserved; `;` is left out on purpose. */
const rawDelimiters = "!$&'()*+,=:@";

/** What a raw character means; `/` and `%` are handled by the loops. */
const rawKind = table(0x80, (code) => ((unreserved + rawDelimiters).includes(String.fromCharCode(code)) ? plain : 0));

/** What an escape of an ASCII character means: refused, decoded, or (plain) kept as an escape. */
const escapeKind = table(0x80, (code) => {
  if (code < 0x20 || code === 0x7f) return refused;
  const character = String.fromCharCode(code);
  if ('/\\;?#'.includes(character)) return refused;
  return unreserved.includes(character) ? decoded : plain;
});

/** Value of a hex digit plus one; 0 for everything else. */
const hexDigit = table(0x80, (code) => '0123456789abcdef'.indexOf(String.fromCharCode(code).toLowerCase()) + 1);

const delimiterEscaped = table(0x80, (code) => (rawDelimiters.includes(String.fromCharCode(code)) ? 1 : 0));

function table(size: number, valueOf: (code: number) => number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, code) => valueOf(code));
}

/**
 * The normal form of a raw request path (without its query), '' when the path is refused. A result is its own normal
 * form, and `new URL(result, 'http://h').pathname` is the same string.
 */
export function normalisePath(raw: string): string {
  const length = raw.length;
  if (length === 0 || raw.charCodeAt(0) !== slash) return '';
  if (length === 1) return raw;
  let segment = 1;
  for (let at = 1; at < length; at++) {
    const code = raw.charCodeAt(at);
    if (code === slash) {
      if (isDotsOrEmpty(raw, segment, at)) return '';
      segment = at + 1;
    } else if (code === percent) {
      return normaliseEscaped(raw);
    } else if (code > 0x7e || rawKind[code] === refused) {
      return '';
    }
  }
  return isDotsOrEmpty(raw, segment, length) ? '' : raw;
}

/** A segment that is empty, `.` or `..`. */
function isDotsOrEmpty(raw: string, from: number, to: number): boolean {
  if (to - from > 2) return false;
  for (let at = from; at < to; at++) if (raw.charCodeAt(at) !== dot) return false;
  return true;
}

/** As {@link normalisePath}, for a path that holds an escape. */
function normaliseEscaped(raw: string): string {
  const length = raw.length;
  let out = '';
  /** Everything before this index is in `out`. */
  let copied = 0;
  let segmentLength = 0;
  let dots = 0;
  /** Hex digits still to come that would make the last `%25` an escape once more. */
  let doubling = 0;
  let at = 1;
  while (at < length) {
    let code = raw.charCodeAt(at);
    if (code === slash) {
      if (segmentLength === dots && dots <= 2) return '';
      segmentLength = dots = doubling = 0;
      at++;
      continue;
    }
    let next = at + 1;
    if (code === percent) {
      code = escapedByte(raw, at);
      if (code < 0) return '';
      const kind = code < 0x80 ? escapeKind[code] : plain;
      if (kind === refused) return '';
      if (kind === plain) {
        next = code < 0x80 ? at + 3 : endOfSequence(raw, at, code);
        if (next === 0) return '';
        if (hasLowerHex(raw, at, next)) {
          out += raw.slice(copied, at) + raw.slice(at, next).toUpperCase();
          copied = next;
        }
        doubling = code === percent ? 2 : 0;
        segmentLength++;
        at = next;
        continue;
      }
      next = at + 3;
      out += raw.slice(copied, at) + String.fromCharCode(code);
      copied = next;
    } else if (code > 0x7e || rawKind[code] === refused) {
      return '';
    }
    if (doubling > 0) {
      if (hexDigit[code] === 0) doubling = 0;
      else if (--doubling === 0) return '';
    }
    segmentLength++;
    if (code === dot) dots++;
    at = next;
  }
  if (segmentLength === dots && dots <= 2) return '';
  return copied === 0 ? raw : out + raw.slice(copied);
}

/** The byte of the escape at `at`, -1 when it is not `%` and two hex digits. */
function escapedByte(raw: string, at: number): number {
  if (at + 2 >= raw.length || raw.charCodeAt(at) !== percent) return -1;
  const high = raw.charCodeAt(at + 1);
  const low = raw.charCodeAt(at + 2);
  if (high > 0x7e || low > 0x7e) return -1;
  const highValue = hexDigit[high] as number;
  const lowValue = hexDigit[low] as number;
  return highValue === 0 || lowValue === 0 ? -1 : ((highValue - 1) << 4) | (lowValue - 1);
}

/**
 * Index after the escaped UTF-8 sequence whose first byte is `lead`, 0 when it is overlong, truncated, a surrogate or
 * beyond U+10FFFF (the well-formed sequences of Unicode table 3-7).
 */
function endOfSequence(raw: string, at: number, lead: number): number {
  let continuations = 1;
  let lowest = 0x80;
  let highest = 0xbf;
  if (lead < 0xc2 || lead > 0xf4) return 0;
  if (lead >= 0xf0) {
    continuations = 3;
    if (lead === 0xf0) lowest = 0x90;
    else if (lead === 0xf4) highest = 0x8f;
  } else if (lead >= 0xe0) {
    continuations = 2;
    if (lead === 0xe0) lowest = 0xa0;
    else if (lead === 0xed) highest = 0x9f;
  }
  let next = at + 3;
  for (; continuations > 0; continuations--) {
    const byte = escapedByte(raw, next);
    if (byte < lowest || byte > highest) return 0;
    lowest = 0x80;
    highest = 0xbf;
    next += 3;
  }
  return next;
}

function hasLowerHex(raw: string, from: number, to: number): boolean {
  for (let at = from; at < to; at++) if (raw.charCodeAt(at) >= 0x61) return true;
  return false;
}

/**
 * Whether a query (without its `?`) may be passed on. It is data for the upstream, sent byte for byte and never decoded:
 * only what would break the request line or start a fragment is refused.
 */
export function queryAllowed(query: string): boolean {
  for (let at = 0, { length } = query; at < length; at++) {
    const code = query.charCodeAt(at);
    if (code < 0x21 || code > 0x7e || code === 0x23) return false;
  }
  return true;
}

/**
 * One spelling for all normalised segments that mean the same to a backend that decodes: escapes of characters that may
 * also stand raw (`%3A` and `:`) are decoded. Never sent anywhere; routes.ts compares with it.
 */
export function meaningOf(segment: string): string {
  let at = segment.indexOf('%');
  if (at === -1) return segment;
  let out = '';
  let copied = 0;
  for (; at !== -1; at = segment.indexOf('%', at + 1)) {
    const code = escapedByte(segment, at);
    if (code < 0 || code > 0x7e || delimiterEscaped[code] === 0) continue;
    out += segment.slice(copied, at) + String.fromCharCode(code);
    copied = at + 3;
  }
  return out + segment.slice(copied);
}

/** Whether a normalised segment has a second spelling with the same {@link meaningOf}. */
export function hasTwoSpellings(segment: string): boolean {
  const meaning = meaningOf(segment);
  for (let at = 0; at < meaning.length; at++) if (delimiterEscaped[meaning.charCodeAt(at)] === 1) return true;
  return false;
}
