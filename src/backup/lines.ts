/** The lines of a file with their place and the hash of what stands before, in constant memory. */
import { createHash, type Hash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { OperatorError } from '../core/failure.js';

export interface Line {
  /** From 1. */
  readonly number: number;
  /** Without its line break. */
  readonly text: string;
  /** SHA-256 (hex) of every byte of the file before this line. */
  readonly sha256Before: () => string;
  /** It ends with a line break. */
  readonly isWhole: boolean;
}

/** Bytes of one line, at most. */
const lineBytesMax = 16 * 1024 * 1024;
const chunkBytes = 256 * 1024;

/**
 * Reads the file from its beginning.
 * @throws OperatorError for a line over 16 MiB; what reading throws.
 */
export async function* readLines(file: FileHandle): AsyncGenerator<Line> {
  const hash = createHash('sha256');
  const chunk = Buffer.alloc(chunkBytes);
  let rest: Buffer = Buffer.alloc(0);
  let position = 0;
  let number = 0;
  for (;;) {
    const { bytesRead } = await file.read(chunk, 0, chunkBytes, position);
    if (bytesRead === 0) break;
    position += bytesRead;
    rest = Buffer.concat([rest, chunk.subarray(0, bytesRead)]);
    let from = 0;
    for (let end = rest.indexOf(0x0a); end !== -1; end = rest.indexOf(0x0a, from)) {
      number += 1;
      yield lineOf(number, rest.subarray(from, end), hash, true);
      hash.update(rest.subarray(from, end + 1));
      from = end + 1;
    }
    rest = rest.subarray(from);
    if (rest.length > lineBytesMax) throw new OperatorError(`Line ${number + 1} of the file is longer than 16 MiB.`);
  }
  if (rest.length > 0) yield lineOf(number + 1, rest, hash, false);
}

function lineOf(number: number, bytes: Buffer, hash: Hash, isWhole: boolean): Line {
  return { number, text: bytes.toString('utf8'), sha256Before: () => hash.copy().digest('hex'), isWhole };
}
