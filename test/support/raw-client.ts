/**
 * A client of bytes: sends exactly what it is given and reads answers as RFC 9112 frames them, so that a test sees
 * what no well-behaved HTTP library would send or show.
 */
import { connect } from 'node:net';

export interface RawResponse {
  readonly status: number;
  /** Status line and header lines (Latin-1), without the blank line. */
  readonly head: string;
  /** The body as decoded from its framing. */
  readonly body: Buffer;
}

export interface RawResult {
  /** Status of the first final answer; 0 when there was none. */
  readonly status: number;
  readonly head: string;
  readonly body: Buffer;
  /** All answers in order, interim (1xx) ones included. */
  readonly responses: readonly RawResponse[];
  /** Whether the server had closed the connection when the exchange ended. */
  readonly closed: boolean;
  /** Every byte received. */
  readonly raw: Buffer;
  /** Bytes after the last whole answer: a cut or malformed one. */
  readonly rest: Buffer;
}

export interface RawExchangeOptions {
  /** Byte offsets: the pieces go out as separate writes, 60 ms apart. */
  readonly splitAt?: readonly number[];
  /** The exchange ends at the latest after this time, ms (60,000). */
  readonly timeoutMs?: number;
  /** After the first final answer, stay this long for a second one or the close, ms (0). */
  readonly lingerMs?: number;
  /** Address to connect to ('127.0.0.1'). */
  readonly host?: string;
  /** Source address, for tests of limits by client address. */
  readonly localAddress?: string;
}

const splitPauseMs = 60;

/**
 * Opens a connection, sends `bytes` (a string is Latin-1) and reads until the first final answer and `lingerMs` more,
 * the server's close, or the timeout. Never rejects for what the server does; no half-close, since the binding under
 * test ends a connection at a FIN.
 */
export function rawExchange(
  port: number,
  bytes: Buffer | string,
  options: RawExchangeOptions = {},
): Promise<RawResult> {
  const request = typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes;
  const method = /^[^ \r\n]*/.exec(request.toString('latin1', 0, 32))?.[0] ?? '';
  const pieces = split(request, options.splitAt ?? []);
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let closed = false;
    let lingering = false;
    const socket = connect({
      port,
      host: options.host ?? '127.0.0.1',
      noDelay: true,
      ...(options.localAddress === undefined ? {} : { localAddress: options.localAddress }),
    });
    const timers = new Set<NodeJS.Timeout>();
    const finish = (): void => {
      for (const timer of timers) clearTimeout(timer);
      socket.removeAllListeners('close');
      socket.destroy();
      resolve({ ...parseResponses(Buffer.concat(chunks), method, closed), closed });
    };
    timers.add(setTimeout(finish, options.timeoutMs ?? 60_000));
    socket.on('error', () => {}); // 'close' follows
    socket.on('end', () => {
      closed = true;
    });
    socket.on('close', () => {
      closed = true;
      finish();
    });
    socket.on('data', (chunk) => {
      chunks.push(chunk);
      if (lingering || parseResponses(Buffer.concat(chunks), method, false).status === 0) return;
      lingering = true;
      if ((options.lingerMs ?? 0) === 0) finish();
      else timers.add(setTimeout(finish, options.lingerMs));
    });
    socket.on('connect', () => {
      pieces.forEach((piece, index) => {
        if (index === 0) socket.write(piece);
        else timers.add(setTimeout(() => socket.writable && socket.write(piece), index * splitPauseMs));
      });
    });
  });
}

function split(bytes: Buffer, offsets: readonly number[]): Buffer[] {
  const edges = [0, ...offsets.filter((offset) => offset > 0 && offset < bytes.length), bytes.length];
  return edges.slice(1).map((end, index) => bytes.subarray(edges[index], end));
}

/**
 * Cuts a server's bytes into answers, at most `max`. `closed` lets an answer without framing end with the connection.
 */
export function parseResponses(
  raw: Buffer,
  method: string,
  closed: boolean,
  max = Number.POSITIVE_INFINITY,
): Omit<RawResult, 'closed'> {
  const responses: RawResponse[] = [];
  let offset = 0;
  while (responses.length < max) {
    const next = parseResponse(raw, offset, method, closed);
    if (next === undefined) break;
    responses.push(next.response);
    offset = next.end;
  }
  const final = responses.find((response) => response.status >= 200);
  return {
    status: final?.status ?? 0,
    head: final?.head ?? '',
    body: final?.body ?? Buffer.alloc(0),
    responses,
    raw,
    rest: raw.subarray(offset),
  };
}

function parseResponse(
  raw: Buffer,
  start: number,
  method: string,
  closed: boolean,
): { response: RawResponse; end: number } | undefined {
  const headEnd = raw.indexOf('\r\n\r\n', start, 'latin1');
  if (headEnd < 0) return undefined;
  const head = raw.toString('latin1', start, headEnd);
  const status = Number(/^HTTP\/1\.[01] (\d{3})/.exec(head)?.[1] ?? 0);
  if (status === 0) return undefined;
  const bodyStart = headEnd + 4;
  const answer = (body: Buffer, end: number) => ({ response: { status, head, body }, end });
  if (status < 200 || status === 204 || status === 304 || method === 'HEAD') return answer(Buffer.alloc(0), bodyStart);
  if (/^chunked$/i.test(headerOf(head, 'Transfer-Encoding') ?? '')) {
    const decoded = decodeChunked(raw, bodyStart);
    return decoded && answer(decoded.body, decoded.end);
  }
  const length = headerOf(head, 'Content-Length');
  if (length !== undefined) {
    const end = bodyStart + Number(length);
    return raw.length >= end ? answer(raw.subarray(bodyStart, end), end) : undefined;
  }
  return closed ? answer(raw.subarray(bodyStart), raw.length) : undefined;
}

/** Decodes chunked coding from `start`; undefined when more must come. `end`: offset after the trailer section. */
export function decodeChunked(raw: Buffer, start: number): { body: Buffer; end: number } | undefined {
  const parts: Buffer[] = [];
  let offset = start;
  for (;;) {
    const lineEnd = raw.indexOf('\r\n', offset, 'latin1');
    if (lineEnd < 0) return undefined;
    const size = Number.parseInt(raw.toString('latin1', offset, lineEnd), 16);
    if (Number.isNaN(size)) return undefined;
    offset = lineEnd + 2;
    if (size === 0) break;
    if (raw.length < offset + size + 2) return undefined;
    parts.push(raw.subarray(offset, offset + size));
    offset += size + 2;
  }
  // Trailer lines up to the blank one.
  for (;;) {
    const lineEnd = raw.indexOf('\r\n', offset, 'latin1');
    if (lineEnd < 0) return undefined;
    if (lineEnd === offset) return { body: Buffer.concat(parts), end: offset + 2 };
    offset = lineEnd + 2;
  }
}

/** Value of the first header of that name (any case) in a head, trimmed; undefined when absent. */
export function headerOf(head: string, name: string): string | undefined {
  return headersOf(head, name)[0];
}

/** All values of a header in a head, in order. */
export function headersOf(head: string, name: string): string[] {
  const wanted = name.toLowerCase();
  const values: string[] = [];
  for (const line of head.split('\r\n').slice(1)) {
    const colon = line.indexOf(':');
    if (colon > 0 && line.slice(0, colon).toLowerCase() === wanted) values.push(line.slice(colon + 1).trim());
  }
  return values;
}
