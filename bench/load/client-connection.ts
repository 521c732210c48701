/**
 * One keep-alive connection of the load: sends a request, reads the whole answer and judges it. One at a time.
 *
 * The answers of all peers have a Content-Length; anything else is an error of the run, as is every byte that nobody
 * asked for. Reads go into one buffer, and a short answer becomes one text.
 */
import { connect, type Socket } from 'node:net';
import { patternBlock } from '../harness/pattern.js';

/** What answers must look like; see LoadJob. */
export interface Expectation {
  readonly bodies: readonly string[];
  readonly bodyContains: string;
  readonly heads: readonly string[];
}

export interface ConnectionOwner {
  /** `fault`: '' or what is wrong with the answer. The connection is free again. */
  answered(connection: ClientConnection, status: number, fault: string): void;
  /** The connection ended, with or without a request under way; it is not used again. */
  broken(connection: ClientConnection, reason: string): void;
}

/** Longer bodies are compared with the pattern (pattern.ts) while they come, and are not kept. */
const textMax = 32 * 1024;
const readBytes = 256 * 1024;
const lengthField = /\r\ncontent-length: *(\d+)\r\n/i;
const shown = 300;

let pattern: Buffer | undefined;

export class ClientConnection {
  /** From 0. */
  readonly number: number;
  /** When the request was sent, or was due; kept for the owner, monotonic ms. */
  sinceMs = 0;
  readonly #owner: ConnectionOwner;
  readonly #expected: Expectation;
  readonly #socket: Socket;
  #isOpen = true;
  #isWaiting = false;
  /** What came of the head, or of a short answer. */
  #text = '';
  #status = 0;
  #head = '';
  /** Of a long body: bytes to come, and those that came. */
  #length = 0;
  #received = 0;
  #fault = '';

  constructor(number: number, origin: URL, owner: ConnectionOwner, expected: Expectation, ready: () => void) {
    this.number = number;
    this.#owner = owner;
    this.#expected = expected;
    this.#socket = connect({
      host: origin.hostname,
      port: Number(origin.port),
      noDelay: true,
      onread: {
        buffer: Buffer.allocUnsafe(readBytes),
        callback: (count, buffer) => this.#read(count, buffer as Buffer),
      },
    });
    this.#socket.once('connect', ready);
    this.#socket.on('error', (error) => this.#broke(error.message));
    this.#socket.on('close', () => this.#broke('the connection was closed'));
  }

  send(request: string): void {
    this.#isWaiting = true;
    this.#socket.write(request, 'latin1');
  }

  /** Ends the connection; the owner hears nothing more of it. */
  close(): void {
    this.#isOpen = false;
    this.#socket.destroy();
  }

  #broke(reason: string): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#socket.destroy();
    this.#owner.broken(this, reason);
  }

  #read(count: number, buffer: Buffer): boolean {
    if (!this.#isWaiting) {
      this.#broke('bytes came that nobody asked for');
    } else if (this.#length > 0) {
      this.#compare(buffer.subarray(0, count));
    } else {
      this.#text =
        this.#text === '' ? buffer.toString('latin1', 0, count) : this.#text + buffer.toString('latin1', 0, count);
      this.#parse(buffer, count);
    }
    return this.#isOpen;
  }

  #parse(buffer: Buffer, count: number): void {
    const text = this.#text;
    const end = text.indexOf('\r\n\r\n');
    if (end < 0) return;
    const head = text.slice(0, end + 2);
    const length = Number(lengthField.exec(head)?.[1] ?? Number.NaN);
    const status = Number(head.slice(9, 12));
    if (!(status >= 200 && length >= 0)) return this.#broke(`an answer without status or length: ${head}`);
    const came = text.length - end - 4;
    if (length > textMax) {
      this.#status = status;
      this.#head = head;
      this.#length = length;
      this.#text = '';
      this.#compare(buffer.subarray(count - came, count));
      return;
    }
    if (came < length) return;
    if (came > length) return this.#broke(`${came - length} bytes behind an answer`);
    this.#finish(status, this.#faultOf(head) || this.#faultOfText(text.slice(end + 4)));
  }

  #compare(piece: Buffer): void {
    pattern ??= patternBlock();
    const isSame = piece.compare(pattern, this.#received, this.#received + piece.length) === 0;
    this.#received += piece.length;
    if (!isSame && this.#fault === '') this.#fault = `byte ${this.#received} or one before it is not what was sent`;
    if (this.#received < this.#length) return;
    if (this.#length !== pattern.length) this.#fault ||= `${this.#length} bytes`;
    this.#finish(this.#status, this.#faultOf(this.#head) || this.#fault);
  }

  #finish(status: number, fault: string): void {
    this.#isWaiting = false;
    this.#text = '';
    this.#head = '';
    this.#length = 0;
    this.#received = 0;
    this.#fault = '';
    this.#owner.answered(this, status, fault);
  }

  #faultOf(head: string): string {
    for (const text of this.#expected.heads) {
      if (!head.includes(text)) return `no "${text}" in ${head.slice(0, shown)}`;
    }
    return '';
  }

  #faultOfText(body: string): string {
    const { bodies, bodyContains } = this.#expected;
    if (bodies.includes(body) || (bodyContains !== '' && body.includes(bodyContains))) return '';
    return `body ${body.slice(0, shown)}`;
  }
}
