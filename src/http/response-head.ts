/**
 * The strict reading of an answer's head (RFC 9112 sections 4 and 5), and what of it goes to the client: end-to-end
 * fields, byte for byte as they came and in their order.
 *
 * Nothing is repaired: a lone CR or LF, a folded line, a space before the colon, a byte no field may hold, two lengths,
 * or a length beside a transfer coding make the answer invalid. What is kept can be written as it is.
 *
 * Hot path: one pass over the head as Latin-1 text; a name seen before costs one Map look-up by its spelling, names and
 * values are slices of that text.
 */
import { dropResponseHeader } from './drop-list.js';
import { isFieldName, parseConnectionOptions } from './field.js';

const uses = { copy: 0, drop: 1, contentLength: 2, transferEncoding: 3, connection: 4, keepAlive: 5 } as const;
type Use = (typeof uses)[keyof typeof uses];

const ownUses: ReadonlyMap<string, Use> = new Map<string, Use>([
  ['content-length', uses.contentLength],
  ['transfer-encoding', uses.transferEncoding],
  ['connection', uses.connection],
  ['keep-alive', uses.keepAlive],
]);

/** Spellings of field names seen so far; bounded, since an upstream may echo its callers. */
const useBySpelling = new Map<string, Use>();
const spellingsMax = 2000;

/** Announced length of an answer that announces none. */
export const noLength = -1;

/** Most bytes of a head, the interim answers before it included; the same for trailers. */
const headBytesMax = 64 * 1024;
/** Longest single line, in bytes. */
const lineBytesMax = 32 * 1024;
/** Most fields of a head; the same for trailers. */
const fieldsMax = 512;

/** The head of an answer; a new one for each, the reader keeps none. */
export class ResponseHead {
  status = 0;
  /** HTTP/1.0: no chunks, and the connection ends with the answer. */
  isHttp10 = false;
  /** Flat name, value, …: the end-to-end fields, one character a byte. */
  readonly fields: string[] = [];
  /** Some value holds bytes from 0x80 on (obs-text): it must be written as bytes, not as text. */
  hasHighBytes = false;
  /** Announced body length in bytes, {@link noLength} when there is none. */
  length: number = noLength;
  isChunked = false;
  /** The upstream closes the connection after this answer. */
  closes = false;
  /** Value of Keep-Alive, '' when absent. */
  keepAlive = '';
}

/** Where fields go; a response of uWebSockets.js is one. */
export interface FieldTarget {
  writeHeader(name: string, value: string | Buffer): unknown;
}

/**
 * Writes the end-to-end fields of `head`, byte for byte, behind a field of our own whose value is `first`. The target
 * takes values as they are, so that all fields are one text with line breaks in it, and one call.
 */
export function writeFields(head: ResponseHead, target: FieldTarget, name: string, first: string): void {
  const { fields } = head;
  let text = first;
  if (!head.hasHighBytes) {
    for (let at = 0; at < fields.length; at += 2) text += `\r\n${fields[at]}: ${fields[at + 1]}`;
    target.writeHeader(name, text);
    return;
  }
  target.writeHeader(name, text);
  for (let at = 0; at < fields.length; at += 2) {
    target.writeHeader(fields[at] as string, Buffer.from(fields[at + 1] as string, 'latin1'));
  }
}

/** What {@link ResponseHeadReader.read} answers when the lines are not complete, and when they are not valid. */
export const incomplete = -1;
export const invalid = -2;

const carriageReturn = 13;
const lineFeed = 10;
const space = 32;
const tab = 9;
const colon = 58;

/** By code: 1 for a character of a field name (RFC 9110 section 5.6.2). */
const nameCharacter = Uint8Array.from({ length: 256 }, (_, code) => (isFieldName(String.fromCharCode(code)) ? 1 : 0));
/** By code: 1 for visible ASCII, space and tab; 2 for obs-text; 0 for what no value may hold. */
const valueCharacter = Uint8Array.from({ length: 256 }, (_, code) => {
  if (code >= 0x80) return 2;
  return code === tab || (code >= space && code <= 0x7e) ? 1 : 0;
});

/** Reads a head, or trailers, from pieces of Latin-1 text that may end anywhere. */
export class ResponseHeadReader {
  head = new ResponseHead();
  /** The begun line that came last, not yet whole. */
  #carry = '';
  #bytes = 0;
  #count = 0;
  #hasStatus = false;
  #isTrailers = false;
  #connection = '';
  #hasLength = false;
  #hasCoding = false;

  /** Expects a head; what was read before, interim answers included, counts towards the limits of size unless `fresh`. */
  begin(fresh: boolean): void {
    if (fresh) this.#bytes = 0;
    this.head = new ResponseHead();
    this.#carry = '';
    this.#count = 0;
    this.#hasStatus = false;
    this.#isTrailers = false;
    this.#connection = '';
    this.#hasLength = false;
    this.#hasCoding = false;
  }

  /** Expects trailers: fields that are checked and dropped, up to an empty line. */
  beginTrailers(): void {
    this.begin(true);
    this.#hasStatus = true;
    this.#isTrailers = true;
  }

  /**
   * Reads on. Answers how many characters of `piece` belong to the head when it is complete, {@link incomplete} when
   * all were taken and more must come, {@link invalid} when no further piece could make it valid.
   */
  read(piece: string): number {
    const carried = this.#carry.length;
    const text = carried === 0 ? piece : this.#carry + piece;
    let at = 0;
    for (;;) {
      const next = this.#hasStatus ? this.#field(text, at) : this.#statusLine(text, at);
      if (next === incomplete) {
        if (text.length - at > lineBytesMax || this.#bytes + text.length > headBytesMax) return invalid;
        this.#bytes += at;
        this.#carry = at === 0 ? text : text.slice(at);
        return incomplete;
      }
      if (next === invalid || next - at > lineBytesMax) return invalid;
      const isEmptyLine = next - at === 2;
      at = next;
      if (isEmptyLine) break;
    }
    this.#bytes += at;
    this.#carry = '';
    if (this.#bytes > headBytesMax || (!this.#isTrailers && !this.#judge())) return invalid;
    return at - carried;
  }

  /** `HTTP/1.1 200 OK`; the reason, which means nothing, may be absent with the space before it. */
  #statusLine(text: string, start: number): number {
    const prefix = 'HTTP/1.';
    if (!text.startsWith(prefix, start)) {
      return prefix.startsWith(text.slice(start)) ? incomplete : invalid;
    }
    // HTTP-version SP 3DIGIT
    const at = start + prefix.length;
    const { length } = text;
    if (at === length) return incomplete;
    const minor = text.charCodeAt(at) - 48;
    if (minor !== 0 && minor !== 1) return invalid;
    if (at + 1 < length && text.charCodeAt(at + 1) !== space) return invalid;
    let status = 0;
    for (let digitAt = at + 2; digitAt < at + 5; digitAt++) {
      if (digitAt >= length) return incomplete;
      const digit = text.charCodeAt(digitAt) - 48;
      if (digit < 0 || digit > 9) return invalid;
      status = status * 10 + digit;
    }
    if (status < 100 || status > 599) return invalid;
    if (at + 5 >= length) return incomplete;
    let end = at + 5;
    const after = text.charCodeAt(end);
    if (after !== space && after !== carriageReturn) return invalid;
    while (end < length && valueCharacter[text.charCodeAt(end)] !== 0) end++;
    const next = lineEnd(text, end);
    if (next < 0) return next;
    this.head.status = status;
    this.head.isHttp10 = minor === 0;
    this.#hasStatus = true;
    return next;
  }

  /** One field line, or the empty line that ends them; answers where the next line begins. */
  #field(text: string, start: number): number {
    const { length } = text;
    let at = start;
    while (at < length && nameCharacter[text.charCodeAt(at)] === 1) at++;
    if (at === length) return incomplete;
    if (text.charCodeAt(at) !== colon || at === start) {
      // Empty, or a folded line, a space before the colon, a byte no name holds.
      return at === start ? lineEnd(text, at) : invalid;
    }
    const nameEnd = at;
    at++;
    while (at < length && isBlank(text.charCodeAt(at))) at++;
    const valueStart = at;
    let seen = 0;
    for (; at < length; at++) {
      const kind = valueCharacter[text.charCodeAt(at)] as number;
      if (kind === 0) break;
      seen |= kind;
    }
    const next = lineEnd(text, at);
    if (next < 0) return next;
    if (++this.#count > fieldsMax) return invalid;
    if (this.#isTrailers) return next;
    while (at > valueStart && isBlank(text.charCodeAt(at - 1))) at--;
    return this.#take(text.slice(start, nameEnd), text.slice(valueStart, at), seen) ? next : invalid;
  }

  /** Keeps a field for what it is. Answers false when it makes the head invalid. */
  #take(name: string, value: string, seen: number): boolean {
    const { head } = this;
    switch (useOf(name)) {
      case uses.copy:
        if ((seen & 2) !== 0) head.hasHighBytes = true;
        head.fields.push(name, value);
        return true;
      case uses.drop:
        return true;
      case uses.contentLength:
        // RFC 9110 section 8.6 allows equal lengths to be taken for one: whoever sends them is not sure of either.
        if (this.#hasLength) return false;
        this.#hasLength = true;
        head.length = decimal(value);
        return head.length >= 0;
      case uses.transferEncoding:
        // Any other coding would have to be undone here (RFC 9112 section 6.1), and two `chunked` are no coding at all.
        if (this.#hasCoding || value.toLowerCase() !== 'chunked') return false;
        this.#hasCoding = true;
        head.isChunked = true;
        return true;
      case uses.connection:
        this.#connection = this.#connection === '' ? value : `${this.#connection},${value}`;
        return true;
      case uses.keepAlive:
        head.keepAlive = value;
        return true;
    }
  }

  /** What the fields amount to together. */
  #judge(): boolean {
    const { head } = this;
    // RFC 9112 section 6.1: HTTP/1.0 knows no codings; section 6.3: a length beside one is a smuggling attempt.
    if (head.isChunked && (head.isHttp10 || this.#hasLength)) return false;
    head.closes = head.isHttp10;
    if (this.#connection !== '') this.#applyConnection();
    return true;
  }

  /** RFC 9110 section 7.6.1: the fields that Connection names end at this hop. */
  #applyConnection(): void {
    const { head } = this;
    const options = parseConnectionOptions(this.#connection);
    if (options.length === 0) return;
    if (options.includes('close')) head.closes = true;
    if (options.length === 1 && (head.closes || options[0] === 'keep-alive')) return;
    const { fields } = head;
    let kept = 0;
    for (let at = 0; at < fields.length; at += 2) {
      if (options.includes((fields[at] as string).toLowerCase())) continue;
      fields[kept] = fields[at] as string;
      fields[kept + 1] = fields[at + 1] as string;
      kept += 2;
    }
    fields.length = kept;
  }
}

/** Where the line after the CRLF at `at` begins; only CR LF ends a line. */
function lineEnd(text: string, at: number): number {
  if (at >= text.length) return incomplete;
  if (text.charCodeAt(at) !== carriageReturn) return invalid;
  if (at + 1 >= text.length) return incomplete;
  return text.charCodeAt(at + 1) === lineFeed ? at + 2 : invalid;
}

function isBlank(code: number): boolean {
  return code === space || code === tab;
}

/** A plain decimal number of at most 15 digits, or -1. */
function decimal(text: string): number {
  if (text.length === 0 || text.length > 15) return -1;
  let value = 0;
  for (let at = 0; at < text.length; at++) {
    const digit = text.charCodeAt(at) - 48;
    if (digit < 0 || digit > 9) return -1;
    value = value * 10 + digit;
  }
  return value;
}

function useOf(name: string): Use {
  const known = useBySpelling.get(name);
  if (known !== undefined) return known;
  const lower = name.toLowerCase();
  const use = ownUses.get(lower) ?? (dropResponseHeader(lower) ? uses.drop : uses.copy);
  // Own memory: a slice would hold the whole head it was cut from.
  if (useBySpelling.size < spellingsMax) useBySpelling.set(Buffer.from(name, 'latin1').toString('latin1'), use);
  return use;
}
