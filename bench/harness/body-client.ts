/**
 * A client on a bare socket that sends or fetches one large body as fast as the other side takes it, and says in JSON
 * what it saw. Usage: tsx body-client.ts up|down ORIGIN PATH TOKEN BYTES
 */
import { connect } from 'node:net';
import { crc32 } from 'node:zlib';
import { blockBytes, patternBlock } from './pattern.js';

export interface BodyExchange {
  readonly status: number;
  readonly seconds: number;
  /** Body of the answer: how long, and its CRC-32. */
  readonly bytes: number;
  readonly crc: number;
  /** The answer itself when it is short. */
  readonly text: string;
}

const textMax = 4096;
const [, , direction, origin = '', path = '', token = '', bytesText = '0'] = process.argv;
const isUpload = direction === 'up';
const uploadBytes = isUpload ? Number(bytesText) : 0;
const { hostname, port } = new URL(origin);

const block = patternBlock();
const socket = connect({ host: hostname, port: Number(port), noDelay: true });
const startedAtMs = performance.now();
let head = '';
let headEnded = false;
let expected = 0;
let bytes = 0;
let crc = 0;
let text = '';

function upload(): void {
  let left = uploadBytes;
  const more = (): void => {
    while (left > 0) {
      const part = left < blockBytes ? block.subarray(0, left) : block;
      left -= part.length;
      if (!socket.write(part)) return void socket.once('drain', more);
    }
  };
  more();
}

function take(chunk: Buffer): void {
  bytes += chunk.length;
  crc = crc32(chunk, crc);
  if (text.length < textMax) text += chunk.toString('latin1', 0, textMax);
  if (bytes >= expected) finish();
}

function finish(): void {
  const status = Number(head.slice(9, 12));
  const seconds = (performance.now() - startedAtMs) / 1000;
  const seen: BodyExchange = { status, seconds, bytes, crc, text: bytes <= textMax ? text : '' };
  console.log(JSON.stringify(seen));
  socket.destroy();
}

socket.on('connect', () => {
  const framing = isUpload ? `Content-Type: application/octet-stream\r\nContent-Length: ${uploadBytes}\r\n` : '';
  const [method, identity] = [isUpload ? 'POST' : 'GET', `Host: ${hostname}\r\nAuthorization: Bearer ${token}\r\n`];
  socket.write(`${method} ${path} HTTP/1.1\r\n${identity}${framing}\r\n`);
  if (isUpload) upload();
});
socket.on('data', (chunk: Buffer) => {
  if (headEnded) return take(chunk);
  const before = head.length;
  head += chunk.toString('latin1');
  const end = head.indexOf('\r\n\r\n');
  if (end < 0) return;
  headEnded = true;
  expected = Number(/^content-length: *(\d+)/im.exec(head)?.[1] ?? Number.NaN);
  if (Number.isNaN(expected)) throw new Error(`an answer without Content-Length:\n${head.slice(0, end)}`);
  take(chunk.subarray(end + 4 - before));
});
socket.on('end', () => {
  throw new Error(`the connection ended after ${bytes} of ${expected} bytes:\n${head.slice(0, 2000)}`);
});
