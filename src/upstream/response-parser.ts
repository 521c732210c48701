/**
 * Where an answer's head, its body and its end are in the bytes of a connection (RFC 9112 sections 6 and 7). Pure: it
 * reads what it is given and touches no socket.
 *
 * A pull parser: each {@link ResponseParser.next} answers one event and where it stopped, so that whoever drives it may
 * stop between two events, and nothing is called back. The same bytes give the same events however they are split,
 * but for the division of the body.
 */
import { incomplete, invalid, noLength, type ResponseHead, ResponseHeadReader } from '../http/response-head.js';

export const parsed = {
  /** Everything was taken; more must come. */
  more: 0,
  /** The final head is there, in `head`. */
  head: 1,
  /** A piece of the body: bytes from `from` up to `at`. */
  piece: 2,
  /** The answer is complete. What lies behind `at` belongs to no answer. */
  end: 3,
  /** Not one sound answer. */
  invalid: 4,
} as const;
type Parsed = (typeof parsed)[keyof typeof parsed];

const states = {
  nothing: 0,
  head: 1,
  counted: 2,
  untilClose: 3,
  chunkSize: 4,
  chunkExtension: 5,
  chunkSizeEnd: 6,
  chunk: 7,
  chunkEnd: 8,
  chunkEndLineFeed: 9,
  trailers: 10,
} as const;
type State = (typeof states)[keyof typeof states];

/** Interim answers before the final one. */
const interimMax = 16;
/** Bytes of a read that are looked at as text at once: most heads are shorter, bodies are not text. */
const windowBytes = 4096;
/** Hexadecimal digits of a chunk's size: up to 2^48 - 1. */
const sizeDigitsMax = 12;
/** Bytes of all chunk extensions of an answer, which are dropped. */
const extensionBytesMax = 16 * 1024;

const tab = 9;
const carriageReturn = 13;
const lineFeed = 10;

export class ResponseParser {
  /** Next byte to read; the driver sets it to the first one of each read. */
  at = 0;
  /** First byte of the piece found last. */
  from = 0;
  readonly #reader = new ResponseHeadReader();
  #state: State = states.nothing;
  #toHead = false;
  #isBodiless = false;
  #interim = 0;
  /** Bytes of body, or of the chunk, still to come. */
  #left = 0;
  #digits = 0;
  #extensionBytes = 0;

  /** Expects the answer to a request; `toHead`: to a HEAD request, which ends with its head. */
  begin(toHead: boolean): void {
    this.#reader.begin(true);
    this.#state = states.head;
    this.#toHead = toHead;
    this.#interim = 0;
  }

  /** The head that was found last. */
  get head(): ResponseHead {
    return this.#reader.head;
  }

  /** Whether the answer's end is told by its connection's. */
  get endsWithConnection(): boolean {
    return this.#state === states.untilClose;
  }

  /** Bytes of the body that must still come when their number is known by the head; else -1. */
  get bodyBytesLeft(): number {
    return this.#state === states.counted ? this.#left : -1;
  }

  /** Whether the body ended with the head by the rules of its status or method, whatever the head announces. */
  get isBodiless(): boolean {
    return this.#isBodiless;
  }

  /** Reads on in `bytes` from `at` up to `end`. */
  next(bytes: Buffer, end: number): Parsed {
    switch (this.#state) {
      case states.head:
        return this.#head(bytes, end);
      case states.counted:
        if (this.#left === 0) return this.#ended();
        return this.#piece(end);
      case states.untilClose:
        if (this.at === end) return parsed.more;
        this.from = this.at;
        this.at = end;
        return parsed.piece;
      case states.trailers:
        return this.#trailers(bytes, end);
      case states.nothing:
        return this.at === end ? parsed.more : parsed.invalid;
      case states.chunkSize:
      case states.chunkExtension:
      case states.chunkSizeEnd:
      case states.chunk:
      case states.chunkEnd:
      case states.chunkEndLineFeed:
        return this.#chunked(bytes, end);
    }
  }

  /** The connection ended: answers whether the answer is complete by that. */
  finish(): boolean {
    const isComplete = this.#state === states.untilClose;
    this.#state = states.nothing;
    return isComplete;
  }

  #ended(): Parsed {
    this.#state = states.nothing;
    return parsed.end;
  }

  #piece(end: number): Parsed {
    if (this.at === end) return parsed.more;
    this.from = this.at;
    this.at = Math.min(end, this.at + this.#left);
    this.#left -= this.at - this.from;
    return parsed.piece;
  }

  #head(bytes: Buffer, end: number): Parsed {
    while (this.at < end) {
      const found = this.#readLines(bytes, end);
      if (found === invalid) return parsed.invalid;
      if (found === incomplete) continue;
      const { status } = this.head;
      if (status >= 200) {
        this.#frame();
        return parsed.head;
      }
      // RFC 9110 section 15.2: any number may come before the final answer. Nobody asked for another protocol.
      if (status === 101 || ++this.#interim > interimMax) return parsed.invalid;
      this.#reader.begin(false);
    }
    return parsed.more;
  }

  /** Gives the reader the next window; answers what it answers, with `at` behind what it took. */
  #readLines(bytes: Buffer, end: number): number {
    const windowEnd = Math.min(end, this.at + windowBytes);
    const taken = this.#reader.read(bytes.toString('latin1', this.at, windowEnd));
    this.at = taken >= 0 ? this.at + taken : windowEnd;
    return taken;
  }

  /** RFC 9112 section 6.3. */
  #frame(): void {
    const { head } = this;
    this.#isBodiless = this.#toHead || head.status === 204 || head.status === 304;
    this.#left = 0;
    if (this.#isBodiless) {
      this.#state = states.counted;
    } else if (head.isChunked) {
      this.#digits = 0;
      this.#extensionBytes = 0;
      this.#state = states.chunkSize;
    } else if (head.length === noLength) {
      this.#state = states.untilClose;
    } else {
      this.#left = head.length;
      this.#state = states.counted;
    }
  }

  #chunked(bytes: Buffer, end: number): Parsed {
    while (this.at < end) {
      if (this.#state === states.chunk) return this.#chunkPiece(end);
      if (!this.#framingByte(bytes[this.at++] as number)) return parsed.invalid;
      if (this.#state === states.trailers) return this.#trailers(bytes, end);
    }
    return parsed.more;
  }

  #chunkPiece(end: number): Parsed {
    const found = this.#piece(end);
    if (this.#left === 0) this.#state = states.chunkEnd;
    return found;
  }

  /** One byte between the data of two chunks; answers whether it may stand there. */
  #framingByte(byte: number): boolean {
    const state = this.#state;
    if (state === states.chunkSize) return this.#sizeByte(byte);
    if (state === states.chunkExtension) return this.#extensionByte(byte);
    if (state === states.chunkEnd) {
      this.#state = states.chunkEndLineFeed;
      return byte === carriageReturn;
    }
    if (state === states.chunkEndLineFeed) {
      this.#state = states.chunkSize;
      this.#digits = 0;
    } else if (this.#left > 0) {
      this.#state = states.chunk;
    } else {
      this.#reader.beginTrailers();
      this.#state = states.trailers;
    }
    return byte === lineFeed;
  }

  #extensionByte(byte: number): boolean {
    if (byte === carriageReturn) {
      this.#state = states.chunkSizeEnd;
      return true;
    }
    const isAllowed = byte === tab || (byte >= 0x20 && byte !== 0x7f);
    return isAllowed && ++this.#extensionBytes <= extensionBytesMax;
  }

  #sizeByte(byte: number): boolean {
    const digit = hexDigit(byte);
    if (digit >= 0) {
      this.#left = this.#digits === 0 ? digit : this.#left * 16 + digit;
      return ++this.#digits <= sizeDigitsMax;
    }
    if (this.#digits === 0) return false;
    if (byte === 0x3b) this.#state = states.chunkExtension;
    else if (byte === carriageReturn) this.#state = states.chunkSizeEnd;
    else return false;
    return true;
  }

  #trailers(bytes: Buffer, end: number): Parsed {
    while (this.at < end) {
      const found = this.#readLines(bytes, end);
      if (found === invalid) return parsed.invalid;
      if (found !== incomplete) return this.#ended();
    }
    return parsed.more;
  }
}

function hexDigit(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const letter = byte | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1;
}
