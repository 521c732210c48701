/** The bytes that large bodies are made of: 1 MiB that does not repeat within itself, again and again. */
import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';

export const blockBytes = 1 << 20;

/** The same in every process. */
export function patternBlock(): Buffer {
  const block = Buffer.alloc(blockBytes);
  for (let at = 0; at < blockBytes; at += 64) createHash('sha512').update(String(at)).digest().copy(block, at);
  return block;
}

/** CRC-32 of a body of `bytes`, which must be whole blocks. */
export function patternCrc(bytes: number): number {
  const block = patternBlock();
  let crc = 0;
  for (let done = 0; done < bytes; done += blockBytes) crc = crc32(block, crc);
  return crc;
}
