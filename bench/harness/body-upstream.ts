/**
 * An upstream on bare sockets for large bodies: POST answers `{"bytes":…,"crc":…}` of what came, GET sends as many
 * bytes as `?bytes=` asks for. One request a connection at a time, bodies with Content-Length only.
 */
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { crc32 } from 'node:zlib';
import { blockBytes, patternBlock } from './pattern.js';

const block = patternBlock();

function serve(socket: Socket): void {
  let head = '';
  let expected = -1;
  let received = 0;
  let crc = 0;
  const take = (chunk: Buffer): void => {
    received += chunk.length;
    crc = crc32(chunk, crc);
    if (received < expected) return;
    answer(socket, '200 OK', JSON.stringify({ bytes: received, crc }));
    [head, expected, received, crc] = ['', -1, 0, 0];
  };
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk: Buffer) => {
    if (expected >= 0) return take(chunk);
    const before = Buffer.byteLength(head, 'latin1');
    head += chunk.toString('latin1');
    const end = head.indexOf('\r\n\r\n');
    if (end < 0) return;
    const rest = chunk.subarray(end + 4 - before);
    const [, method, target = ''] = /^(\w+) (\S+)/.exec(head) ?? [];
    if (method === 'GET') {
      head = '';
      return send(socket, Number(new URL(target, 'http://upstream').searchParams.get('bytes')));
    }
    const [, length] = /^content-length: *(\d+)/im.exec(head) ?? [];
    if (length === undefined) return answer(socket, '411 Length Required', '{}');
    expected = Number(length);
    take(rest);
  });
}

function send(socket: Socket, bytes: number): void {
  socket.write(`HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: ${bytes}\r\n\r\n`);
  let left = bytes;
  const more = (): void => {
    while (left > 0) {
      const part = left < blockBytes ? block.subarray(0, left) : block;
      left -= part.length;
      if (!socket.write(part)) return void socket.once('drain', more);
    }
  };
  more();
}

function answer(socket: Socket, status: string, body: string): void {
  socket.write(`HTTP/1.1 ${status}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
}

const server = createServer({ noDelay: true }, serve).listen(0, '127.0.0.1', () => {
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  console.log(JSON.stringify({ msg: 'listening', plane: 'data', address }));
});
process.once('SIGTERM', () => process.exit(0));
