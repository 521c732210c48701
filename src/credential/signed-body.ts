/**
 * The body of an HMAC request while it is read: its bytes, kept until the signature is known to hold, and their digest.
 *
 * Bounded twice: no more than `maxBytes` are kept, and they take at most twice their size (or 16 KiB), however small
 * the chunks are (a list of one-byte buffers would take a hundred times theirs).
 */
import { createHash, hash, type Hash } from 'node:crypto';
import { emptyBodySha256 } from './hmac.js';

/** First allocation once a body has come in more than one chunk. */
const growthStartBytes = 16 * 1024;

export class BodyCollector {
  readonly #maxBytes: number;
  #kept: Buffer = Buffer.alloc(0);
  #bytes = 0;
  #tooLarge = false;
  /** Made at the second chunk only: a body in one chunk, the usual one, is hashed in one call at half the cost. */
  #hash: Hash | undefined;
  #digestHex = '';

  /** `maxBytes`: `hmacMaxBody`; a body of exactly this size is still taken. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /**
   * Takes the next chunk; its memory may be reused as soon as this returns.
   * False once the body is too large: everything is dropped and later chunks are ignored.
   */
  push(chunk: ArrayBuffer): boolean {
    if (this.#digestHex !== '') throw new Error('a chunk came after the digest of the body was taken');
    if (this.#tooLarge) return false;
    if (chunk.byteLength === 0) return true;
    const total = this.#bytes + chunk.byteLength;
    if (total > this.#maxBytes) {
      this.#tooLarge = true;
      this.#kept = Buffer.alloc(0);
      this.#hash = undefined;
      return false;
    }
    const bytes = new Uint8Array(chunk);
    if (this.#bytes === 0) {
      this.#kept = Buffer.from(bytes);
    } else {
      this.#hash ??= createHash('sha256').update(this.#kept.subarray(0, this.#bytes));
      this.#hash.update(bytes);
      if (total > this.#kept.length) this.#grow(total);
      this.#kept.set(bytes, this.#bytes);
    }
    this.#bytes = total;
    return true;
  }

  /** Whether more than `maxBytes` came: the request is to be refused with 413. */
  get tooLarge(): boolean {
    return this.#tooLarge;
  }

  /** Bytes kept so far. */
  get bytes(): number {
    return this.#tooLarge ? 0 : this.#bytes;
  }

  /**
   * Lower-case hex SHA-256 of the whole body; may be asked again, but no chunk may follow.
   * @throws Error for a body that was too large: there is no digest of what was dropped.
   */
  digestHex(): string {
    if (this.#tooLarge) throw new Error('a body that was too large has no digest');
    if (this.#digestHex === '') {
      if (this.#bytes === 0) this.#digestHex = emptyBodySha256;
      else this.#digestHex = this.#hash?.digest('hex') ?? hash('sha256', this.#kept, 'hex');
    }
    return this.#digestHex;
  }

  /** The bytes of the body, not copied; empty when it was too large. */
  body(): Buffer {
    return this.#kept.subarray(0, this.bytes);
  }

  #grow(needed: number): void {
    const grown = Buffer.allocUnsafe(Math.min(Math.max(needed * 2, growthStartBytes), this.#maxBytes));
    this.#kept.copy(grown, 0, 0, this.#bytes);
    this.#kept = grown;
  }
}
