/** The client to the upstream on real sockets: reuse, aborts, pace, limits, unix sockets, TLS. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { createServer as createTlsServer, type TlsOptions, type TLSSocket } from 'node:tls';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Upstream } from '../../src/upstream/upstream.js';
import { ask, type ClientSettings, send, startClient } from '../support/upstream-client.js';
import { until } from '../support/until.js';
import { type RawReply, type RawUpstream, startRawUpstream } from '../support/upstream.js';

const okAnswer = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';
const pathOf = (request: string): string => request.split(' ')[1] ?? '';

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

function clientTo(addresses: readonly string[], settings?: ClientSettings): Upstream {
  const client = startClient(addresses, settings);
  cleanups.push(() => client.close());
  return client;
}

async function rawServer(reply?: RawReply | string): Promise<RawUpstream> {
  const server = await startRawUpstream(reply);
  cleanups.push(() => server.stop());
  return server;
}

describe('a connection', () => {
  test('carries one request after another, the one used last first', async () => {
    const held: Socket[] = [];
    const server = await rawServer((request, socket) => {
      if (pathOf(request) !== '/hold') return okAnswer;
      held.push(socket);
      return undefined;
    });
    const client = clientTo([server.url]);
    const [first, second] = [send(client, { path: '/hold' }), send(client, { path: '/hold' })];
    await until(() => held.length === 2);
    held[0]?.write(okAnswer);
    await first.listener.until(() => first.listener.isOver);
    held[1]?.write(okAnswer);
    await second.listener.until(() => second.listener.isOver);
    for (let time = 0; time < 5; time++) expect(await ask(client)).toBe('200 ok');
    expect(server.received).toHaveLength(2);
    const requests = server.received.map((bytes) => bytes.toString('latin1').match(/^GET /gm)?.length);
    expect(requests).toEqual([1, 6]);
  });

  test.each([
    ['says close', 'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok'],
    ['is HTTP/1.0', 'HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok'],
    ['is followed by a byte', `${okAnswer}x`],
    ['is followed by another answer', `${okAnswer}HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison`],
    ['is 204 with a length', 'HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\n'],
  ])('whose answer %s carries no further request', async (_, bytes) => {
    const server = await rawServer(bytes);
    const client = clientTo([server.url], { connectionsMax: 1 });
    const first = await ask(client);
    expect(first).toMatch(/^20[04] (ok)?$/);
    expect(await ask(client)).toBe(first);
    expect(server.received).toHaveLength(2);
  });

  test('on which bytes come that nobody asked for is destroyed, and they answer nothing', async () => {
    let socket: Socket | undefined;
    const server = await rawServer((_, its) => {
      socket = its;
      return okAnswer;
    });
    const client = clientTo([server.url], { connectionsMax: 1 });
    expect(await ask(client)).toBe('200 ok');
    const closed = once(socket as Socket, 'close');
    socket?.write('HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison');
    await closed;
    expect(await ask(client)).toBe('200 ok');
    expect(server.received).toHaveLength(2);
  });

  test.each([64, 3])(
    'that was given up, as all kept ones were, loses no request: the second try has a new one (of %i)',
    async (connectionsMax) => {
      const served = new WeakSet<Socket>();
      const held: Socket[] = [];
      const server = await rawServer((request, socket) => {
        if (served.has(socket)) {
          socket.resetAndDestroy();
          return undefined;
        }
        served.add(socket);
        if (pathOf(request) !== '/hold') return okAnswer;
        held.push(socket);
        return undefined;
      });
      const client = clientTo([server.url], { connectionsMax });
      const kept = Array.from({ length: 3 }, () => send(client, { path: '/hold' }));
      await until(() => held.length === 3);
      for (const socket of held) socket.write(okAnswer);
      await Promise.all(kept.map(({ listener }) => listener.until(() => listener.isOver)));
      // At once, and one after another.
      expect(await Promise.all(Array.from({ length: 5 }, () => ask(client)))).toEqual(Array(5).fill('200 ok'));
      for (let time = 0; time < 5; time++) expect(await ask(client)).toBe('200 ok');
      expect(await ask(client, { method: 'POST', body: Buffer.from('x') })).toBe('502 upstream-unreachable');
    },
  );

  test.each(['before its answer', 'amid its answer', 'while it connects', 'while it waits'])(
    'whose request is aborted %s is destroyed: no later request gets its answer',
    async (when) => {
      const held: Socket[] = [];
      const server = await rawServer((request, socket) => {
        if (pathOf(request) !== '/held') return okAnswer;
        held.push(socket);
        return when === 'amid its answer' ? 'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf' : undefined;
      });
      const client = clientTo([server.url], { connectionsMax: 1 });
      const { listener, call } = send(client, { path: '/held' });
      const waiting = when === 'while it waits' ? send(client, { path: '/never' }) : undefined;
      if (when === 'while it connects') call.abort();
      else if (when === 'amid its answer') await listener.until(() => listener.bytes > 0);
      else await until(() => held.length === 1);
      waiting?.call.abort();
      const next = ask(client);
      call.abort();
      held[0]?.write('HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison');
      expect(await next).toBe('200 ok');
      expect(listener.isOver).toBe(false);
      expect(waiting?.listener.isOver).not.toBe(true);
      expect(server.text()).not.toContain('/never');
    },
  );

  test('is closed when it was idle too long, by our time or the shorter one of the upstream', async () => {
    for (const [keepAlive, keepAliveMs] of [
      ['', 200],
      ['Keep-Alive: timeout=1\r\n', 20_000],
    ] as const) {
      const sockets: Socket[] = [];
      const server = await rawServer((_, socket) => {
        sockets.push(socket);
        return okAnswer.replace('\r\n\r\n', `\r\n${keepAlive}\r\n`);
      });
      const client = clientTo([server.url], { keepAliveMs });
      expect(await ask(client)).toBe('200 ok');
      await once(sockets[0] as Socket, 'close');
    }
  });

  test('takes no further request from a certain age on', async () => {
    const server = await rawServer();
    const client = clientTo([server.url], { maxAgeMs: 1 });
    await ask(client);
    await until(async () => {
      await ask(client);
      return server.received.length > 1;
    });
  });
});

describe('an answer', () => {
  test.each([
    ['FIN amid its head', 'HTTP/1.1 200 OK\r\nX-', (socket: Socket) => socket.end(), '502 upstream-invalid-response'],
    [
      'RST amid its head',
      'HTTP/1.1 200 OK\r\nX-',
      (socket: Socket) => socket.resetAndDestroy(),
      '502 upstream-invalid-response',
    ],
    ['FIN before it', '', (socket: Socket) => socket.end(), '502 upstream-unreachable'],
    ['RST before it', '', (socket: Socket) => socket.resetAndDestroy(), '502 upstream-unreachable'],
    [
      'FIN amid its body',
      'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf',
      (socket: Socket) => socket.end(),
      '200 cut',
    ],
    [
      'RST where its end is the connection’s',
      'HTTP/1.1 200 OK\r\n\r\nhalf',
      (socket: Socket) => socket.resetAndDestroy(),
      '200 cut',
    ],
    [
      'FIN where its end is the connection’s',
      'HTTP/1.1 200 OK\r\n\r\nall',
      (socket: Socket) => socket.end(),
      '200 all',
    ],
  ])('with %s', async (_, bytes, cut, verdict) => {
    const server = await rawServer((__, socket) => {
      socket.write(bytes, 'latin1', () => setTimeout(cut, 20, socket));
      return undefined;
    });
    expect(await ask(clientTo([server.url]))).toBe(verdict);
  });

  test('that drips byte by byte is read; one without end of interim answers, or of head, is refused', async () => {
    const server = await rawServer((request, socket) => {
      const path = pathOf(request);
      const part = path === '/interim' ? 'HTTP/1.1 102 Processing\r\n\r\n' : 'X-Y: zzzzzzzzzzzzzzzzzzzzzzzzzzz\r\n';
      const drip = (at: number): void => {
        if (path !== '/drip') socket.write(at === 0 && path === '/head' ? `HTTP/1.1 200 OK\r\n${part}` : part);
        else if (at < okAnswer.length) socket.write(okAnswer.charAt(at));
        else return;
        if (!socket.destroyed) setImmediate(drip, at + 1);
      };
      drip(0);
      return undefined;
    });
    const client = clientTo([server.url]);
    expect(await ask(client, { path: '/drip' })).toBe('200 ok');
    expect(await ask(client, { path: '/interim' })).toBe('502 upstream-invalid-response');
    expect(await ask(client, { path: '/head' })).toBe('502 upstream-invalid-response');
  });

  test('comes at the pace of who takes it: the upstream is read no further while it is paused', async () => {
    const bytes = 64 * 1024 * 1024;
    const server = createHttpServer((_, response) => {
      response.end(Buffer.alloc(bytes, 'a'));
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    cleanups.push(() => server.close());
    const client = clientTo([`http://127.0.0.1:${(server.address() as AddressInfo).port}`], { idleTimeoutMs: 300 });
    const { listener, call } = send(client);
    listener.pauseAt = 1;
    await listener.until(() => listener.bytes > 0);
    const paused = listener.bytes;
    const pausedAtMs = performance.now();
    // Longer than the idle timeout: it is not the upstream that is late.
    await until(() => performance.now() > pausedAtMs + 1000);
    expect(listener.bytes).toBe(paused);
    listener.pauseAt = Number.POSITIVE_INFINITY;
    call.resume();
    await listener.until(() => listener.isOver);
    expect([listener.isComplete, listener.bytes]).toEqual([true, bytes]);
  });

  test('that is late is 504, with or without a connection, and amid its body a cut', async () => {
    const server = await rawServer((request) =>
      pathOf(request) === '/body' ? 'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf' : undefined,
    );
    const client = clientTo([server.url], { headTimeoutMs: 300, idleTimeoutMs: 300, connectionsMax: 1 });
    const verdicts = await Promise.all([ask(client), ask(client)]);
    expect(verdicts).toEqual(['504 upstream-timeout', '504 upstream-timeout']);
    expect(await ask(client, { path: '/body' })).toBe('200 cut');
  });
});

describe('requests', () => {
  test('wait for a connection in order, and beyond the bound they are refused; who leaves makes room', async () => {
    const held: Socket[] = [];
    const server = await rawServer((_, socket) => {
      held.push(socket);
      return undefined;
    });
    const client = clientTo([server.url], { connectionsMax: 1 });
    const sent = Array.from({ length: 5 }, (_, at) => send(client, { path: `/${at}` }));
    expect(await ask(client)).toBe('503 overloaded');
    sent[2]?.call.abort();
    const last = send(client, { path: '/5' });
    expect(await ask(client)).toBe('503 overloaded');
    for (const { listener } of [sent[0], sent[1], sent[3], sent[4], last] as typeof sent) {
      await until(() => held.length > 0);
      held.shift()?.write(okAnswer);
      await listener.until(() => listener.isOver);
      expect(listener.verdict).toBe('200 ok');
    }
    expect(server.text().match(/^GET \S+/gm)).toEqual(['GET /0', 'GET /1', 'GET /3', 'GET /4', 'GET /5']);
    expect(server.received).toHaveLength(1);
  });

  test('carry bodies: small, large, streamed with a length and in chunks, and the connection goes on', async () => {
    const bodies: string[] = [];
    const server = createHttpServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        bodies.push(Buffer.concat(chunks).toString('latin1'));
        response.end('ok');
      });
    }).listen(0, '127.0.0.1');
    let connections = 0;
    server.on('connection', () => connections++);
    await once(server, 'listening');
    cleanups.push(() => server.close());
    const client = clientTo([`http://127.0.0.1:${(server.address() as AddressInfo).port}`]);
    const [small, large] = [Buffer.from('h\xe4llo\0\r\n', 'latin1'), Buffer.alloc(300_000, 'abc')];
    const streamed = (): PassThrough => {
      const stream = new PassThrough();
      stream.write(small);
      setImmediate(() => stream.end(large));
      return stream;
    };
    const length = small.length + large.length;
    expect(await ask(client, { method: 'PUT', body: small })).toBe('200 ok');
    expect(await ask(client, { method: 'PUT', body: large })).toBe('200 ok');
    expect(await ask(client, { method: 'POST', body: streamed(), bodyLength: length })).toBe('200 ok');
    expect(await ask(client, { method: 'POST', body: streamed() })).toBe('200 ok');
    expect(await ask(client)).toBe('200 ok');
    const both = Buffer.concat([small, large]).toString('latin1');
    expect(bodies).toEqual([small.toString('latin1'), large.toString('latin1'), both, both, '']);
    expect(connections).toBe(1);
  });

  test.each([
    ['breaks off', 'short', (body: PassThrough) => body.destroy()],
    ['is shorter than announced', 'short', (body: PassThrough) => body.end()],
    ['is longer than announced', 'longer than ten', (body: PassThrough) => body.end()],
  ])('whose body %s destroy the connection: the rest is never filled with another request', async (_, bytes, end) => {
    const server = await rawServer();
    const client = clientTo([server.url], { connectionsMax: 1 });
    const body = new PassThrough();
    body.write(bytes);
    setImmediate(end, body);
    expect(await ask(client, { method: 'POST', body, bodyLength: 10 })).toBe('502 upstream-unreachable');
    expect(await ask(client)).toBe('200 ok');
    expect(server.received).toHaveLength(2);
    expect(server.received[0]?.toString()).not.toContain('GET ');
  });

  test('tell how much of a body the connection holds, until the upstream reads on', async () => {
    let reading: Socket | undefined;
    const server = createServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', () => {
        socket.pause();
        reading = socket;
      });
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    cleanups.push(() => server.close());
    const client = clientTo([`http://127.0.0.1:${(server.address() as AddressInfo).port}`]);
    const body = new PassThrough();
    const { call } = send(client, { method: 'PUT', body, bodyLength: 64 * 2 ** 20 });
    await until(() => reading !== undefined);
    expect(call.unsentBytes).toBe(0);
    // More than the kernel takes of it.
    body.write(Buffer.alloc(32 * 2 ** 20));
    await until(() => call.unsentBytes > 0);
    reading?.resume();
    await until(() => call.unsentBytes === 0);
    call.abort();
    expect(call.unsentBytes).toBe(0);
  });

  test('fail, all of them, when the client is closed', async () => {
    const server = await rawServer(() => undefined);
    const client = startClient([server.url], { connectionsMax: 1 });
    const asked = [ask(client), ask(client)];
    await until(() => server.received.length > 0);
    client.close();
    expect(await Promise.all(asked)).toEqual(['502 upstream-unreachable', '502 upstream-unreachable']);
  });

  test('to nobody are 502, by name and by path', async () => {
    const server = await startRawUpstream();
    await server.stop();
    for (const address of [server.url, 'unix:/nowhere/api.sock', 'http://name.invalid']) {
      expect(await ask(clientTo([address])), address).toBe('502 upstream-unreachable');
    }
  });
});

describe('over', () => {
  let dir: string;
  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), 'tk-upstream-'));
    const openssl = (...args: string[]): Buffer => execFileSync('openssl', args, { cwd: dir, stdio: 'pipe' });
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
    openssl('req', '-x509', ...key, '-subj', '/CN=Test CA', '-keyout', 'ca.key', '-out', 'ca.pem');
    const issued = ['-CA', 'ca.pem', '-CAkey', 'ca.key'];
    const names = 'subjectAltName=DNS:localhost,DNS:api.internal';
    openssl(
      'req',
      '-x509',
      ...key,
      ...issued,
      '-subj',
      '/CN=api',
      '-addext',
      names,
      '-keyout',
      's.key',
      '-out',
      's.pem',
    );
    openssl('req', '-x509', ...key, ...issued, '-subj', '/CN=us', '-keyout', 'c.key', '-out', 'c.pem');
  });
  afterAll(() => rmSync(dir, { recursive: true, force: true }));
  const pem = (name: string): string => readFileSync(join(dir, name), 'utf8');

  async function listening(server: Server, at: { path: string } | { port: number; host: string }): Promise<void> {
    server.listen(at);
    await once(server, 'listening');
    cleanups.push(() => server.close());
  }

  function answering(socket: Socket): void {
    socket.on('error', () => {});
    socket.on('data', () => socket.write(okAnswer));
  }

  async function tlsServer(options: TlsOptions = {}): Promise<{ port: number; sockets: TLSSocket[] }> {
    const sockets: TLSSocket[] = [];
    const server = createTlsServer({ key: pem('s.key'), cert: pem('s.pem'), ...options }, (socket) => {
      sockets.push(socket);
      answering(socket);
    });
    await listening(server, { port: 0, host: '127.0.0.1' });
    return { port: (server.address() as AddressInfo).port, sockets };
  }

  test('a unix socket requests are answered, over one connection', async () => {
    const path = join(dir, 'api.sock');
    let connections = 0;
    await listening(
      createServer((socket) => {
        connections++;
        answering(socket);
      }),
      { path },
    );
    const client = clientTo([`unix:${path}`]);
    for (let time = 0; time < 3; time++) expect(await ask(client)).toBe('200 ok');
    expect(connections).toBe(1);
  });

  test('TLS the certificate is held against the CA and the name, and the name is asked for', async () => {
    const { port, sockets } = await tlsServer();
    const address = `https://localhost:${port}`;
    const ca = pem('ca.pem');
    const refused = '502 upstream-unreachable';
    expect(await ask(clientTo([address]))).toBe(refused);
    expect(await ask(clientTo([`https://127.0.0.1:${port}`], { tls: { ca } }))).toBe(refused);
    expect(await ask(clientTo([address], { tls: { ca, serverName: 'other.internal' } }))).toBe(refused);
    expect(await ask(clientTo([address], { tls: { ca } }))).toBe('200 ok');
    expect(sockets.at(-1)?.servername).toBe('localhost');
    expect(await ask(clientTo([`https://127.0.0.1:${port}`], { tls: { ca, serverName: 'api.internal' } }))).toBe(
      '200 ok',
    );
    expect(sockets.at(-1)?.servername).toBe('api.internal');
    expect(sockets.at(-1)?.alpnProtocol === false || sockets.at(-1)?.alpnProtocol === 'http/1.1').toBe(true);
  });

  test('TLS a connection carries many requests, and the next handshake is a resumed one', async () => {
    const { port, sockets } = await tlsServer();
    const client = clientTo([`https://localhost:${port}`], { tls: { ca: pem('ca.pem') } });
    for (let time = 0; time < 5; time++) expect(await ask(client)).toBe('200 ok');
    expect(sockets).toHaveLength(1);
    const closed = once(sockets[0] as TLSSocket, 'close');
    sockets[0]?.destroy();
    await closed;
    expect(await ask(client)).toBe('200 ok');
    expect(sockets.at(-1)?.isSessionReused()).toBe(true);
  });

  test('TLS an upstream that wants a client certificate gets it, and refuses who has none', async () => {
    const ca = pem('ca.pem');
    const { port } = await tlsServer({ ca, requestCert: true, rejectUnauthorized: true });
    const address = `https://localhost:${port}`;
    expect(await ask(clientTo([address], { tls: { ca, cert: pem('c.pem'), key: pem('c.key') } }))).toBe('200 ok');
    expect(await ask(clientTo([address], { tls: { ca } }))).toBe('502 upstream-unreachable');
  });

  test('TLS large bodies pass both ways', async () => {
    const body = Buffer.from(Array.from({ length: 3_000_000 }, (_, at) => (at * 31) % 256));
    const server = createTlsServer({ key: pem('s.key'), cert: pem('s.pem') }, (socket) => {
      let bytes = 0;
      socket.on('error', () => {});
      socket.on('data', (chunk: Buffer) => {
        const headLength = bytes === 0 ? chunk.indexOf('\r\n\r\n') + 4 : 0;
        bytes += chunk.length - headLength;
        if (bytes === 0) return;
        if (bytes === chunk.length - headLength)
          socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n`);
        socket.write(chunk.subarray(headLength));
      });
    });
    await listening(server, { port: 0, host: '127.0.0.1' });
    const { port } = server.address() as AddressInfo;
    const client = clientTo([`https://localhost:${port}`], { tls: { ca: pem('ca.pem') } });
    const { listener } = send(client, { method: 'PUT', body });
    await listener.until(() => listener.isOver);
    expect(listener.body.equals(body)).toBe(true);
  });

  test('TLS a handshake that never ends is a connection that never stands: 502 in the time for connecting', async () => {
    const server = await rawServer(() => undefined);
    const client = clientTo([server.url.replace('http:', 'https:')], { connectTimeoutMs: 300 });
    expect(await ask(client)).toBe('502 upstream-unreachable');
  });
});
