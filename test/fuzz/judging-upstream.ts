/** An upstream of bytes that judges each request as it comes and keeps only what is wrong. */
import { once } from 'node:events';
import { type AddressInfo, type Socket, createServer } from 'node:net';
import { decodeChunked, headerOf, headersOf } from '../support/raw-client.js';

export interface JudgingUpstream {
  readonly url: string;
  /** Requests that came. */
  readonly requests: number;
  /** What no request may look like here, one line each. */
  readonly violations: readonly string[];
  stop(): Promise<void>;
}

export interface Identities {
  readonly tokenIds: readonly string[];
  readonly tenant: string;
  readonly scopes: string;
}

const allowed = [
  /^(?:GET|HEAD) \/api\/v1\/products(?:\/[^/?]+)?(?:\?\S*)? HTTP\/1\.1$/,
  /^POST \/api\/v1\/products\/search(?:\?\S*)? HTTP\/1\.1$/,
];
const open = /^GET \/status(?:\?\S*)? HTTP\/1\.1$/;
const forbidden = ['authorization', 'x-api-key', 'upgrade', 'te', 'trailer', 'keep-alive', 'proxy-connection'];

/** Everything that is wrong with a request head, one line each. */
export function judgeHead(head: string, { tokenIds, tenant, scopes }: Identities): string[] {
  const [line = '', ...fields] = head.split('\r\n');
  const wrong: string[] = [];
  const isOpen = open.test(line);
  if (!isOpen && !allowed.some((pattern) => pattern.test(line))) wrong.push(`not a route of the token: ${line}`);
  const identity = new Map<string, string[]>();
  for (const field of fields) {
    const colon = field.indexOf(':');
    const name = field.slice(0, colon).toLowerCase();
    if (colon < 1 || !/^[!#$%&'*+\-.^_`|~0-9a-z]+$/.test(name)) wrong.push(`not a field: ${JSON.stringify(field)}`);
    if (hasControl(field)) wrong.push(`a control character in ${JSON.stringify(field)}`);
    if (forbidden.includes(name)) wrong.push(`${name} went upstream`);
    // Backends fold these three into one; none leaves them out.
    if (name.replaceAll(/[_.]/g, '-').startsWith('x-tollkeeper-')) {
      identity.set(name, [...(identity.get(name) ?? []), field.slice(colon + 1).trim()]);
    }
  }
  if (headersOf(head, 'Host').length !== 1) wrong.push('Host is not there once');
  const expected = {
    'x-tollkeeper-token-id': tokenIds,
    'x-tollkeeper-tenant': [tenant],
    'x-tollkeeper-scopes': [scopes],
  };
  for (const [name, values] of identity) {
    const right: readonly string[] | undefined = expected[name as keyof typeof expected];
    if (values.length !== 1 || right?.includes(values[0] as string) !== true)
      wrong.push(`${name}: ${values.join(' | ')}`);
  }
  if (isOpen) {
    if (identity.size > 0) wrong.push('a public request came with an identity');
  } else if (!identity.has('x-tollkeeper-token-id')) {
    wrong.push(`unauthenticated: ${line}`);
  }
  return wrong;
}

export async function startJudgingUpstream(identities: () => Identities): Promise<JudgingUpstream> {
  const sockets = new Set<Socket>();
  const violations: string[] = [];
  let requests = 0;
  const server = createServer((socket) => {
    let pending: Buffer = Buffer.alloc(0);
    let judged = false;
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => {
      sockets.delete(socket);
      if (pending.length > 0 && !judged) violations.push(`bytes that are no request: ${excerpt(pending)}`);
    });
    socket.on('data', (chunk) => {
      pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
      for (;;) {
        const headEnd = pending.indexOf('\r\n\r\n', 0, 'latin1');
        if (headEnd < 0) return;
        const head = pending.toString('latin1', 0, headEnd);
        if (!judged) {
          requests += 1;
          judged = true;
          for (const wrong of judgeHead(head, identities())) violations.push(wrong);
        }
        const end = bodyEnd(pending, headEnd + 4, head);
        if (end < 0) return;
        socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n' + (head.startsWith('HEAD ') ? '' : 'ok'));
        pending = pending.subarray(end);
        judged = false;
      }
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    get requests() {
      return requests;
    },
    violations,
    async stop() {
      const closed = once(server, 'close');
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

/** Offset behind the body, -1 when more must come. */
function bodyEnd(bytes: Buffer, start: number, head: string): number {
  if (/chunked/i.test(headerOf(head, 'Transfer-Encoding') ?? '')) return decodeChunked(bytes, start)?.end ?? -1;
  const end = start + Number(headerOf(head, 'Content-Length') ?? 0);
  return bytes.length >= end ? end : -1;
}

/** A character below space that is no tab, or DEL. */
function hasControl(text: string): boolean {
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if ((code < 0x20 && code !== 0x09) || code === 0x7f) return true;
  }
  return false;
}

function excerpt(bytes: Buffer): string {
  return JSON.stringify(bytes.toString('latin1', 0, 200));
}
