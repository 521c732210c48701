/** A request's body that comes piece by piece, on its way into the connection: backpressure and framing. */
import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { inPollPhase } from '../core/poll-phase.js';
import { unknownLength } from './call.js';

export interface UploadOwner {
  /** All of it is in the socket's hands. */
  uploaded(): void;
  /** It ended too early, or holds more than was announced: what was begun can only be broken off. */
  uploadBroke(): void;
  /** The upstream takes no more for now (true), or takes on (false). */
  uploadBlocked(isBlocked: boolean): void;
}

export class Upload {
  readonly #socket: Socket;
  readonly #body: Readable;
  readonly #length: number;
  readonly #owner: UploadOwner;
  #sent = 0;
  #isOver = false;

  /** Starts at once; the head must have been written. `length`: bytes announced, or `unknownLength` for chunks. */
  constructor(socket: Socket, body: Readable, length: number, owner: UploadOwner) {
    this.#socket = socket;
    this.#body = body;
    this.#length = length;
    this.#owner = owner;
    socket.on('drain', this.#drained);
    body.on('end', this.#ended);
    body.on('close', this.#closed);
    body.on('data', this.#piece);
    // It says no more of itself.
    if (body.destroyed) inPollPhase(this.#closed);
  }

  /** Lets go of both; a body that has not ended is destroyed. */
  stop(): void {
    if (this.#isOver) return;
    this.#release();
    this.#body.destroy();
  }

  #release(): void {
    this.#isOver = true;
    this.#socket.off('drain', this.#drained);
    this.#body.off('end', this.#ended);
    this.#body.off('close', this.#closed);
    this.#body.off('data', this.#piece);
  }

  readonly #piece = (piece: Buffer): void => {
    this.#sent += piece.length;
    if (this.#length !== unknownLength && this.#sent > this.#length) {
      this.#break();
      return;
    }
    if (this.#write(piece)) return;
    this.#body.pause();
    this.#owner.uploadBlocked(true);
  };

  #write(piece: Buffer): boolean {
    const socket = this.#socket;
    if (this.#length !== unknownLength) return socket.write(piece);
    if (piece.length === 0) return true;
    socket.cork();
    socket.write(`${piece.length.toString(16)}\r\n`, 'latin1');
    socket.write(piece);
    const takesMore = socket.write('\r\n', 'latin1');
    socket.uncork();
    return takesMore;
  }

  readonly #drained = (): void => {
    this.#owner.uploadBlocked(false);
    this.#body.resume();
  };

  readonly #ended = (): void => {
    if (this.#length !== unknownLength && this.#sent < this.#length) {
      this.#break();
      return;
    }
    this.#release();
    if (this.#length === unknownLength) this.#socket.write('0\r\n\r\n', 'latin1');
    this.#owner.uploaded();
  };

  readonly #closed = (): void => this.#break();

  #break(): void {
    if (this.#isOver) return;
    this.#release();
    this.#body.destroy();
    this.#owner.uploadBroke();
  }
}
