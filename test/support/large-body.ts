/** Large bodies for tests: made piece by piece, sent and read at the pace of the other side, known by their digest. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { headerOf } from './raw-client.js';
import { openConnection } from './raw-connection.js';
import { until } from './until.js';

export const mib = 1024 * 1024;

/** One MiB of a body, another for each number, so that a lost or swapped piece shows in the digest. */
function piece(number: number): Buffer {
  const bytes = Buffer.alloc(mib, 'tollkeeper ');
  bytes.writeUInt32BE(number, 0);
  bytes.writeUInt32BE(number, mib - 4);
  return bytes;
}

export function digestOf(pieces: number): string {
  const hash = createHash('sha256');
  for (let number = 0; number < pieces; number++) hash.update(piece(number));
  return hash.digest('hex');
}

/** Writes the pieces one by one, at the pace of the other side; `wrap` frames each. */
export async function writePieces(
  stream: Socket | ServerResponse,
  pieces: number,
  wrap: (bytes: Buffer) => Buffer = (bytes) => bytes,
): Promise<void> {
  for (let number = 0; number < pieces; number++) {
    if (!stream.write(wrap(piece(number)))) await once(stream, 'drain');
  }
}

/** Hashes what comes; resolves with digest and length at `bytes`, or at the end. */
export async function digestStream(stream: IncomingMessage): Promise<string> {
  const hash = createHash('sha256');
  stream.on('data', (chunk: Buffer) => hash.update(chunk));
  stream.resume();
  await once(stream, 'end');
  return hash.digest('hex');
}

export interface Download {
  readonly head: string;
  readonly digest: string;
}

/** Reads an answer from `socket` to its end without keeping it: by its length, or by undoing its chunks. */
export async function readAnswer(socket: Socket): Promise<Download> {
  const hash = createHash('sha256');
  let head = '';
  let pending: Buffer = Buffer.alloc(0);
  let left = 0;
  let isChunked = false;
  for await (const chunk of socket.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
    if (head === '') {
      const end = pending.indexOf('\r\n\r\n');
      if (end < 0) continue;
      head = pending.toString('latin1', 0, end);
      pending = pending.subarray(end + 4);
      isChunked = headerOf(head, 'Transfer-Encoding') === 'chunked';
      left = isChunked ? 0 : Number(headerOf(head, 'Content-Length'));
    }
    for (;;) {
      const taken = pending.subarray(0, left);
      hash.update(taken);
      pending = pending.subarray(taken.length);
      left -= taken.length;
      if (!isChunked) break;
      if (left > 0) break;
      // Between chunks: [CR LF] size CR LF
      const from = pending.subarray(0, 2).toString() === '\r\n' ? 2 : 0;
      const lineEnd = pending.indexOf('\r\n', from);
      if (lineEnd < 0) break;
      const size = Number.parseInt(pending.toString('latin1', from, lineEnd), 16);
      if (size === 0) return { head, digest: hash.digest('hex') };
      pending = pending.subarray(lineEnd + 2);
      left = size;
    }
    if (!isChunked && left === 0) return { head, digest: hash.digest('hex') };
  }
  throw new Error('the answer broke off');
}

/** A connection whose bytes are the test's to read. */
export async function openPaused(port: number): Promise<{ socket: Socket; send(bytes: string): void }> {
  const { socket, send } = await openConnection(port);
  socket.removeAllListeners('data');
  socket.pause();
  return { socket, send };
}

/** Resolves when `read` has answered the same for half a second: nothing moves any more. */
export async function standstill(read: () => number): Promise<number> {
  let last = read();
  let sinceMs = performance.now();
  await until(() => {
    const now = read();
    if (now !== last) sinceMs = performance.now();
    last = now;
    return performance.now() - sinceMs > 500;
  });
  return last;
}
