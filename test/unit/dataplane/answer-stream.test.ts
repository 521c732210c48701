import fc from 'fast-check';
import { expect, test } from 'vitest';
import { AnswerStream } from '../../../src/dataplane/answer-stream.js';
import type { HttpResponse } from '../../../src/dataplane/binding.js';
import { noLength } from '../../../src/http/response-head.js';

const corkBufferBytes = 16 * 1024;

/**
 * Chunked writing as the binding does it (uWebSockets 20.48, AsyncSocket.h and HttpResponse.h), down to its fault: what
 * does not fit into the cork buffer is lost when the bytes before it cannot be flushed.
 */
class BindingModel {
  readonly received: Buffer[] = [];
  /** Bytes that the kernel takes before the client reads. */
  room = 0;
  #kept: Buffer = Buffer.alloc(0);
  #corked: Buffer | undefined;
  #onWritable: () => boolean = () => true;

  onWritable(handler: () => boolean): void {
    this.#onWritable = handler;
  }

  cork(handler: () => void): void {
    if (this.#corked !== undefined) return handler();
    this.#corked = Buffer.alloc(0);
    handler();
    this.#uncork(Buffer.alloc(0));
  }

  write(bytes: Buffer): boolean {
    this.#put(Buffer.from(`${bytes.length.toString(16)}\r\n`));
    const taken = this.#put(bytes);
    this.#put(Buffer.from('\r\n'));
    return taken;
  }

  /** The client reads: the kernel has room for `bytes`, and says so. */
  read(bytes: number): void {
    this.room = bytes;
    this.#onWritable();
  }

  end(): void {
    this.cork(() => this.#put(Buffer.from('0\r\n\r\n')));
    this.room = Number.POSITIVE_INFINITY;
    this.#send(Buffer.alloc(0));
  }

  /** Answers whether all of `bytes` was sent or corked. */
  #put(bytes: Buffer): boolean {
    if (this.#kept.length > 0) {
      const kept = this.#kept;
      this.#kept = Buffer.alloc(0);
      if (!this.#send(kept)) {
        this.#kept = Buffer.concat([this.#kept, bytes]);
        return false;
      }
    }
    if (this.#corked === undefined) return this.#send(bytes);
    if (this.#corked.length + bytes.length > corkBufferBytes) return this.#uncork(bytes);
    this.#corked = Buffer.concat([this.#corked, bytes]);
    return true;
  }

  #uncork(bytes: Buffer): boolean {
    const corked = this.#corked;
    this.#corked = undefined;
    if (corked !== undefined && corked.length > 0 && !this.#put(corked)) return false;
    return this.#put(bytes);
  }

  #send(bytes: Buffer): boolean {
    const all = this.#kept.length === 0 ? bytes : Buffer.concat([this.#kept, bytes]);
    const sent = Math.min(all.length, this.room);
    this.room -= sent;
    if (sent > 0) this.received.push(Buffer.from(all.subarray(0, sent)));
    this.#kept = all.subarray(sent);
    return this.#kept.length === 0;
  }
}

function decoded(raw: Buffer): Buffer | undefined {
  const parts: Buffer[] = [];
  for (let at = 0; ; ) {
    const lineEnd = raw.indexOf('\r\n', at);
    const size = Number.parseInt(raw.toString('latin1', at, lineEnd), 16);
    if (lineEnd < 0 || Number.isNaN(size)) return undefined;
    if (size === 0) return Buffer.concat(parts);
    parts.push(raw.subarray(lineEnd + 2, lineEnd + 2 + size));
    at = lineEnd + 2 + size + 2;
  }
}

/** What happens to the stream, in random order: a piece comes, the client reads, somebody pokes. */
const events = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constant('piece' as const), bytes: fc.integer({ min: 1, max: 80_000 }) }),
    fc.record({ kind: fc.constant('read' as const), bytes: fc.integer({ min: 0, max: 60_000 }) }),
    fc.record({ kind: fc.constant('poke' as const), bytes: fc.integer({ min: 0, max: 40 }) }),
  ),
  { minLength: 1, maxLength: 40 },
);

test('every byte of a chunked answer arrives once and in order, wherever the client stops reading', () => {
  fc.assert(
    fc.property(events, (happenings) => {
      const binding = new BindingModel();
      const owner = { clientBlocked: () => {}, clientReady: () => {}, answerSent: () => {} };
      const stream = new AnswerStream(binding as unknown as HttpResponse, noLength, owner);
      const sent: Buffer[] = [];
      for (const { kind, bytes } of happenings) {
        if (kind === 'piece') {
          const piece = Buffer.alloc(bytes, `${sent.length} tollkeeper `);
          sent.push(piece);
          stream.write(piece);
        } else if (kind === 'read') {
          binding.read(bytes);
        } else {
          binding.room += bytes;
          if (stream.blocked) stream.poke();
        }
      }
      while (stream.blocked) binding.read(1_000_000);
      binding.end();
      const body = decoded(Buffer.concat(binding.received));
      expect(body?.equals(Buffer.concat(sent))).toBe(true);
    }),
    { numRuns: 400 },
  );
});
