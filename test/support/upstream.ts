/** Upstreams of the tests: a real node:http server that records requests, and one of bytes for what HTTP forbids. */
import { once } from 'node:events';
import { type IncomingMessage, type RequestListener, type ServerResponse, createServer } from 'node:http';
import { type AddressInfo, type Socket, createServer as createNetServer } from 'node:net';
import { decodeChunked, headerOf } from './raw-client.js';

export interface RecordedRequest {
  readonly method: string;
  /** The target, byte for byte as it came. */
  readonly url: string;
  /** Names and values in turn, as they came. */
  readonly rawHeaders: readonly string[];
  /** Values by lower-case name, as node:http folds them. */
  readonly headers: IncomingMessage['headers'];
  /** As `rawHeaders`, of what stood behind a body in chunks. */
  readonly rawTrailers: readonly string[];
  readonly body: Buffer;
}

/** Answers a request after its body was read and recorded. */
export type UpstreamHandler = (request: RecordedRequest, response: ServerResponse) => void;

export interface Upstream {
  /** For `TOLLKEEPER_UPSTREAM`. */
  readonly url: string;
  readonly port: number;
  /** Every request whose body was read to its end, in order. */
  readonly requests: RecordedRequest[];
  /** Connections accepted so far. */
  readonly connections: number;
  /** Resolves with the n-th request (1 is the first), at once when it has come already. */
  request(n: number): Promise<RecordedRequest>;
  stop(): Promise<void>;
}

const answerOk: UpstreamHandler = (_, response) => {
  response.setHeader('Content-Type', 'text/plain');
  response.end('ok');
};

/** Starts an upstream on a free loopback port. Without a handler it answers 200 `ok`. */
export function startUpstream(handler: UpstreamHandler = answerOk): Promise<Upstream> {
  const requests: RecordedRequest[] = [];
  const waiting: (() => void)[] = [];
  return listen(
    (request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('error', () => {}); // a client that leaves half way is not recorded
      request.on('end', () => {
        const recorded: RecordedRequest = {
          method: request.method ?? '',
          url: request.url ?? '',
          rawHeaders: request.rawHeaders,
          headers: request.headers,
          rawTrailers: request.rawTrailers,
          body: Buffer.concat(chunks),
        };
        requests.push(recorded);
        for (const wake of waiting.splice(0)) wake();
        handler(recorded, response);
      });
    },
    requests,
    waiting,
  );
}

/** Starts an upstream that hands over request and answer as streams, unread and unrecorded. */
export function startStreamingUpstream(listener: RequestListener): Promise<Upstream> {
  return listen(listener, [], []);
}

async function listen(
  listener: RequestListener,
  requests: RecordedRequest[],
  waiting: (() => void)[],
): Promise<Upstream> {
  const server = createServer({ keepAliveTimeout: 60_000, requestTimeout: 0 }, listener);
  let connections = 0;
  server.on('connection', () => {
    connections += 1;
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    requests,
    get connections() {
      return connections;
    },
    async request(n) {
      for (;;) {
        const found = requests[n - 1];
        if (found !== undefined) return found;
        await new Promise<void>((resolve) => {
          waiting.push(resolve);
        });
      }
    },
    async stop() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

export interface RawUpstream {
  readonly url: string;
  readonly port: number;
  /** All bytes received, by connection in the order they were opened. */
  readonly received: readonly Buffer[];
  /** Everything received, Latin-1. */
  text(): string;
  stop(): Promise<void>;
}

/** Called once for each whole request (Latin-1, head and body). */
export type RawReply = (request: string, socket: Socket) => Buffer | string | undefined;

const rawOk: RawReply = () => 'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok';

/**
 * Starts a server of bytes that records all it gets. `reply` answers each request (head with its Content-Length body)
 * with exact bytes (a string is Latin-1); `undefined` answers nothing, the socket is the handler's then.
 */
export async function startRawUpstream(reply: RawReply | string = rawOk): Promise<RawUpstream> {
  const answer: RawReply = typeof reply === 'string' ? () => reply : reply;
  const records: Buffer[][] = [];
  const sockets = new Set<Socket>();
  const server = createNetServer((socket) => {
    const record: Buffer[] = [];
    records.push(record);
    sockets.add(socket);
    let pending: Buffer = Buffer.alloc(0);
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
    socket.on('data', (chunk) => {
      record.push(chunk);
      pending = Buffer.concat([pending, chunk]);
      for (let end = requestEnd(pending); end > 0; end = requestEnd(pending)) {
        const bytes = answer(pending.toString('latin1', 0, end), socket);
        pending = pending.subarray(end);
        if (bytes !== undefined && socket.writable) socket.write(bytes, 'latin1');
      }
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const received = (): Buffer[] => records.map((record) => Buffer.concat(record));
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    get received() {
      return received();
    },
    text: () => Buffer.concat(received()).toString('latin1'),
    async stop() {
      const closed = once(server, 'close');
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

/** Length of the first whole request in `bytes` (body by Content-Length or chunks), 0 when more must come. */
function requestEnd(bytes: Buffer): number {
  const headEnd = bytes.indexOf('\r\n\r\n', 0, 'latin1');
  if (headEnd < 0) return 0;
  const head = bytes.toString('latin1', 0, headEnd);
  const bodyStart = headEnd + 4;
  if (/chunked/i.test(headerOf(head, 'Transfer-Encoding') ?? '')) return decodeChunked(bytes, bodyStart)?.end ?? 0;
  const end = bodyStart + Number(headerOf(head, 'Content-Length') ?? 0);
  return bytes.length >= end ? end : 0;
}
