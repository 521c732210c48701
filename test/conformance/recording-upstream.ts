/**
 * An upstream of bytes that answers every request 200 and keeps what it got: each request head as soon as it is
 * whole, so that a request whose body never comes is on record too.
 */
import { once } from 'node:events';
import { type AddressInfo, type Socket, createServer } from 'node:net';
import { decodeChunked, headerOf } from '../support/raw-client.js';

export interface UpstreamRecord {
  /** Request line and header lines, Latin-1. */
  readonly head: string;
  /** Body bytes so far. */
  body: Buffer;
  /** Which connection it came on, counted from 0. */
  readonly connection: number;
}

export interface RecordingUpstream {
  readonly url: string;
  readonly records: readonly UpstreamRecord[];
  /** Bytes that are no request head: a connection that lost its framing. */
  readonly strayBytes: number;
  stop(): Promise<void>;
}

/** The answer's body names what was asked, so that a client can tell answers apart. */
export async function startRecordingUpstream(): Promise<RecordingUpstream> {
  const records: UpstreamRecord[] = [];
  const sockets = new Set<Socket>();
  const stray = new Map<Socket, number>();
  let connections = 0;

  const server = createServer((socket) => {
    const connection = connections++;
    let pending: Buffer = Buffer.alloc(0);
    let current: UpstreamRecord | undefined;
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
    socket.on('data', (chunk) => {
      pending = Buffer.concat([pending, chunk]);
      for (;;) {
        const headEnd = pending.indexOf('\r\n\r\n', 0, 'latin1');
        if (headEnd < 0) break;
        const head = pending.toString('latin1', 0, headEnd);
        if (current === undefined) {
          current = { head, body: Buffer.alloc(0), connection };
          records.push(current);
        }
        const body = readBody(pending, headEnd + 4, head);
        current.body = body.bytes;
        if (body.end < 0) break;
        answer(socket, head);
        pending = pending.subarray(body.end);
        current = undefined;
      }
      stray.set(socket, current === undefined ? pending.length : 0);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    records,
    get strayBytes() {
      return [...stray.values()].reduce((sum, bytes) => sum + bytes, 0);
    },
    async stop() {
      const closed = once(server, 'close');
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

/** `end`: offset behind the body, -1 when more must come. */
function readBody(bytes: Buffer, start: number, head: string): { bytes: Buffer; end: number } {
  if (/chunked/i.test(headerOf(head, 'Transfer-Encoding') ?? '')) {
    const decoded = decodeChunked(bytes, start);
    return decoded === undefined
      ? { bytes: bytes.subarray(start), end: -1 }
      : { bytes: decoded.body, end: decoded.end };
  }
  const length = Number(headerOf(head, 'Content-Length') ?? 0);
  const end = start + length;
  return { bytes: bytes.subarray(start, end), end: bytes.length >= end ? end : -1 };
}

function answer(socket: Socket, head: string): void {
  const [method = '', target = ''] = head.slice(0, head.indexOf('\r\n')).split(' ');
  const body = Buffer.from(`upstream got ${method} ${target}`, 'latin1');
  const lines = ['HTTP/1.1 200 OK', 'Content-Type: text/plain', `Content-Length: ${body.length}`, '', ''];
  socket.write(Buffer.concat([Buffer.from(lines.join('\r\n')), method === 'HEAD' ? Buffer.alloc(0) : body]));
}
