/**
 * Bytes of a request's body that nobody has asked for yet.
 *
 * Why this is not an array of buffers: the binding reads a socket until it finds it empty, and a pause takes effect only
 * then. As long as a client sends faster than its bytes are put away, they keep coming, and what makes putting away slow
 * is not the copy but the page faults of fresh memory. So large pieces go to blocks that are used again. Measured, curl
 * sending 1 GiB over loopback to a paused request: up to 608 MB came with fresh memory, 2 to 20 MB with used blocks.
 */

/** What the binding reads at once. */
const blockBytes = 512 * 1024;
/** Blocks kept for the next body, touched before they are needed. */
const sparesMin = 8;
const sparesMax = 32;
/** Pieces from this size on go to blocks. */
const blockFrom = 64 * 1024;
/** Further small pieces share memory of this size. */
const smallBytes = 16 * 1024;

const spares: Buffer[] = [];

interface Part {
  readonly memory: Buffer;
  used: number;
}

export class ByteQueue {
  #parts: Part[] = [];
  /** Bytes in the queue. */
  length = 0;
  /** What they take: a block is one, however little of it is used. */
  memoryBytes = 0;

  /** Takes a copy of `bytes`. */
  push(bytes: ArrayBuffer): void {
    const source = new Uint8Array(bytes);
    this.length += source.length;
    const last = this.#parts.at(-1);
    if (last !== undefined && last.memory.length - last.used >= source.length) {
      last.memory.set(source, last.used);
      last.used += source.length;
    } else if (source.length >= blockFrom) {
      for (let from = 0; from < source.length; from += blockBytes) this.#add(takeBlock(), source, from);
    } else {
      // The first piece is most often the only one: no more memory than it needs.
      this.#add(
        Buffer.allocUnsafe(last === undefined ? source.length : Math.max(smallBytes, source.length)),
        source,
        0,
      );
    }
  }

  /** Takes out a piece from the front; undefined when the queue is empty. */
  shift(): Buffer | undefined {
    const part = this.#parts.shift();
    if (part === undefined) return undefined;
    this.length -= part.used;
    this.memoryBytes -= part.memory.length;
    return release(part);
  }

  /** Takes out everything. */
  takeAll(): Buffer {
    const pieces = this.#parts.map(release);
    this.#parts = [];
    this.length = 0;
    this.memoryBytes = 0;
    return pieces.length === 1 ? (pieces[0] as Buffer) : Buffer.concat(pieces);
  }

  /** Forgets everything. */
  clear(): void {
    for (const { memory } of this.#parts) giveBlock(memory);
    this.#parts = [];
    this.length = 0;
    this.memoryBytes = 0;
  }

  #add(memory: Buffer, source: Uint8Array, from: number): void {
    const piece = source.subarray(from, from + memory.length);
    memory.set(piece, 0);
    this.memoryBytes += memory.length;
    this.#parts.push({ memory, used: piece.length });
  }
}

/** The bytes of a part, in memory of their own when it is a block's. */
function release({ memory, used }: Part): Buffer {
  if (memory.length !== blockBytes) return memory.subarray(0, used);
  const bytes = Buffer.allocUnsafeSlow(used);
  memory.copy(bytes, 0, 0, used);
  giveBlock(memory);
  return bytes;
}

function takeBlock(): Buffer {
  if (spares.length === 0) {
    for (let count = 0; count < sparesMin; count++) spares.push(Buffer.alloc(blockBytes, 1));
  }
  return spares.pop() as Buffer;
}

function giveBlock(memory: Buffer): void {
  if (memory.length === blockBytes && spares.length < sparesMax) spares.push(memory);
}
