/** Clients and upstreams that mean harm: false identities, split answers, connections held open, aborts, floods of bytes. */
import { readdirSync } from 'node:fs';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { plantSecret } from '../support/canary.js';
import { runCommand } from '../support/cli.js';
import { call } from '../support/http-client.js';
import { startLoopClock } from '../support/loop-clock.js';
import { residentBytes, watchMemory } from '../support/memory.js';
import { type ProxyRig, startProxyRig } from '../support/proxy-rig.js';
import { headersOf, rawExchange } from '../support/raw-client.js';
import { openConnection } from '../support/raw-connection.js';
import type { Sidecar } from '../support/sidecar.js';
import { until } from '../support/until.js';
import { abortingClients } from './aborting-clients.js';

let rig: ProxyRig;

beforeAll(async () => {
  rig = await startProxyRig({ TOLLKEEPER_AUTH_FAILURE_LIMIT: '0', TOLLKEEPER_SHUTDOWN_TIMEOUT_MS: '1000' });
});

afterAll(() => rig.stop());

/** Every way to write a name that some backend folds into it. */
function spellings(name: string): string[] {
  const variants = [name, name.toLowerCase(), name.toUpperCase(), name.replaceAll('-', '_'), name.replaceAll('-', '.')];
  variants.push(name.replace('-', '_'), name.replace(/-(?=[^-]*$)/, '_'), name.replace(/-(?=[^-]*$)/, '.'));
  variants.push(`HTTP_${name.toUpperCase().replaceAll('-', '_')}`, `${name}-Extra`);
  return [...new Set(variants)];
}

function folded(name: string): string {
  return name
    .toLowerCase()
    .replaceAll(/[-_.]/g, '')
    .replace(/^http(?=x)/, '');
}

describe('a header that tells the upstream who calls', () => {
  const claims = ['Token-Id', 'Tenant', 'Scopes', 'Subject', 'Role'].map((name) => `X-Tollkeeper-${name}`);
  const overrides = ['X-Original-URL', 'X-Rewrite-URL', 'X-HTTP-Method-Override', 'X-HTTP-Method', 'X-Method-Override'];
  const addresses = ['X-Real-IP', 'X-Client-IP', 'True-Client-IP', 'Forwarded', 'X-Forwarded-User', 'X-Forwarded-Uri'];

  test.each([
    ['with a token', '/files/spoof'],
    ['on a public route', '/open/spoof'],
  ])('is believed of no client, in no spelling, %s', async (_, path) => {
    for (const name of [...claims, ...overrides, ...addresses]) {
      for (const spelling of spellings(name)) {
        const before = rig.seen(path).length;
        await rig.exchange('GET', path, { lines: [`${spelling}: forged-value`] });
        for (const request of rig.seen(path).slice(before)) {
          const head = request.split('\r\n\r\n', 1)[0] as string;
          const forged = head.split('\r\n').filter((line) => line.includes('forged-value'));
          // What is left may be no alias of the name.
          const aliases = forged.filter((line) => folded(line.slice(0, line.indexOf(':'))) === folded(name));
          expect([spelling, aliases]).toEqual([spelling, []]);
          if (path.startsWith('/files/')) expect(headersOf(head, 'X-Tollkeeper-Token-Id')).toEqual([rig.token.id]);
          else expect(headersOf(head, 'X-Tollkeeper-Token-Id')).toEqual([]);
        }
      }
    }
  });
});

describe('an answer', () => {
  test('of the upstream cannot be split: what its header would add is not an answer of its own', async () => {
    const injected = 'X-A: 1\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged';
    for (const head of [
      `HTTP/1.1 200 OK\r\nContent-Length: 2\r\n${injected}`,
      'HTTP/1.1 200 OK\r\nX-A: 1\rX-Forged: 1\r\nContent-Length: 2\r\n\r\nok',
      'HTTP/1.1 200 OK\r\nX-A: 1\nX-Forged: 1\r\nContent-Length: 2\r\n\r\nok',
      'HTTP/1.1 200 OK\r\nX-A: 1\0\r\nContent-Length: 2\r\n\r\nok',
      'HTTP/1.1 200 O\rK\r\nContent-Length: 2\r\n\r\nok',
      'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 8\r\n\r\nokforged',
      'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    ]) {
      const path = rig.script('split', head);
      const { responses, rest } = await rig.exchange('GET', path, { lingerMs: 100 });
      const final = responses.filter(({ status }) => status >= 200);
      expect(final.length).toBeLessThanOrEqual(1);
      expect(rest.toString('latin1')).not.toContain('forged');
      expect(final[0]?.body.toString('latin1') ?? '').not.toContain('forged');
      expect(headersOf(final[0]?.head ?? '', 'X-Forged')).toEqual([]);
      // The next request gets its own answer.
      expect(
        (
          await rig.exchange('GET', rig.script('after', 'HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nown'))
        ).body.toString(),
      ).toBe('own');
    }
  });

  test('never repeats what a client sent, into a header or a document', async () => {
    for (const value of ['<script>alert(1)</script>', 'a%0d%0aSet-Cookie: x=1', '"}], "forged": true']) {
      const lines = [`X-Request-Id: ${value}`, `User-Agent: ${value}`, `X-Forwarded-For: ${value}`];
      for (const path of [
        '/files/a',
        `/nowhere/${encodeURIComponent(value)}`,
        `/files/a?q=${encodeURIComponent(value)}`,
      ]) {
        const { raw } = await rig.exchange('GET', path, { lines });
        expect(raw.toString('latin1')).not.toContain(value);
        expect(raw.toString('latin1')).not.toMatch(/^Set-Cookie/im);
      }
    }
  });
});

describe('connections', () => {
  const descriptors = (): number => readdirSync(`/proc/${rig.sidecar.pid}/fd`).length;

  test('that drip, stall or hold half a request do not hold up others, and are closed', async () => {
    const sockets: Socket[] = [];
    const before = descriptors();
    const beginnings = [
      '',
      'G',
      'GET /files/a HTTP/1.1\r\nHost: x',
      'POST /files/a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n',
    ];
    for (let number = 0; number < 400; number += 1) {
      const socket = connect({ port: rig.sidecar.dataPort, host: '127.0.0.1' });
      socket.on('error', () => {});
      socket.on('data', () => {});
      socket.write(beginnings[number % beginnings.length] as string);
      sockets.push(socket);
    }
    const drip = setInterval(() => {
      for (const socket of sockets) if (socket.writable) socket.write('x');
    }, 500);
    await until(() => descriptors() > before + 300);
    for (let count = 0; count < 200; count += 1) expect((await rig.exchange('GET', '/files/a')).status).toBe(200);
    const metrics = (await call(`${rig.sidecar.adminUrl}/metrics`)).text;
    expect(Number(/^process_open_fds (\d+)$/m.exec(metrics)?.[1])).toBeGreaterThan(300);
    expect(Number(/^process_max_fds (\d+)$/m.exec(metrics)?.[1])).toBeGreaterThan(1000);
    // A request that is not whole is ended by its timeout, whether it drips or not.
    const clock = startLoopClock();
    await until(() => descriptors() < before + 20);
    expect(clock.now()).toBeLessThan(40_000);
    clock.stop();
    clearInterval(drip);
    for (const socket of sockets) socket.destroy();
  });

  test('that break off at any byte leave no connection and no memory behind', async () => {
    const aborts = Number(process.env.FAULT_ABORTS ?? 1500);
    const round = abortingClients(rig);
    await round(aborts / 3);
    const before = { descriptors: descriptors(), resident: residentBytes(rig.sidecar.pid) };
    await round(aborts);
    await until(async () =>
      /^tollkeeper_requests_in_flight 0$/m.test((await call(`${rig.sidecar.adminUrl}/metrics`)).text),
    );
    await until(() => descriptors() <= before.descriptors + 20);
    expect((await call(`${rig.sidecar.adminUrl}/metrics`)).text).toMatch(/^tollkeeper_body_memory_bytes 0$/m);
    expect(residentBytes(rig.sidecar.pid)).toBeLessThan(before.resident + 64 * 1024 * 1024);
    expect((await rig.exchange('GET', '/files/a')).status).toBe(200);
  });

  /** An upstream that reads the beginning of an upload and nothing more, and a sidecar before it. */
  async function stalledUpstream(budget: number, timeoutMs: number): Promise<{ stalled: Sidecar; upstream: Server }> {
    const upstream = createServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', (chunk: Buffer) => {
        if (chunk.toString('latin1', 0, 3) === 'PUT') socket.pause();
        else socket.write('HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok');
      });
    });
    upstream.listen(0, '127.0.0.1');
    await once(upstream, 'listening');
    const { port } = upstream.address() as AddressInfo;
    const stalled = await rig.another({
      TOLLKEEPER_UPSTREAM: `http://127.0.0.1:${port}`,
      TOLLKEEPER_BODY_MEMORY_MAX: String(budget),
      // A paused client that closes is not noticed (a fact of the binding): the time for the upstream ends its upload.
      TOLLKEEPER_UPSTREAM_TIMEOUT_MS: String(timeoutMs),
      TOLLKEEPER_UPSTREAM_IDLE_TIMEOUT_MS: String(timeoutMs),
    });
    return { stalled, upstream };
  }

  /** Uploads of 100 MiB, sent as fast as they are taken. */
  function startUploads(port: number, count: number): Socket[] {
    const bytesEach = 100 * 1024 * 1024;
    const piece = Buffer.alloc(1024 * 1024, 1);
    return Array.from({ length: count }, () => {
      const socket = connect({ port, host: '127.0.0.1' });
      socket.on('error', () => {});
      socket.on('data', () => {});
      const more = (): void => {
        while (socket.writable && socket.bytesWritten < bytesEach) if (!socket.write(piece)) return;
      };
      socket.on('drain', more);
      socket.write(rig.request('PUT', '/files/stalled', [`Content-Length: ${bytesEach}`]));
      more();
      return socket;
    });
  }

  /**
   * What the kernel holds for a paused client trickles in for as long as its connection stands; nearly all that will come
   * has come when the uploads have not moved by a megabyte in a second, but for what was refused. Answers how many stand.
   */
  async function untilStill(sockets: readonly Socket[]): Promise<number> {
    const sentBytes = (): number => sockets.reduce((sum, socket) => sum + socket.bytesWritten, 0);
    let markedBytes = 0;
    let markedAtMs = performance.now();
    await until(() => {
      const nowMs = performance.now();
      if (sentBytes() - markedBytes > 2 ** 20) {
        markedBytes = sentBytes();
        markedAtMs = nowMs;
      }
      return nowMs - markedAtMs > 1000;
    });
    const standing = sockets.filter((socket) => !socket.destroyed).length;
    console.log(`${Math.round(sentBytes() / 2 ** 20)} MiB were sent; ${standing} of ${sockets.length} uploads stand`);
    return standing;
  }

  const bodyMemory = async ({ adminUrl }: Sidecar): Promise<number> =>
    Number(/^tollkeeper_body_memory_bytes (\d+)$/m.exec((await call(`${adminUrl}/metrics`)).text)?.[1]);

  test('that upload to an upstream which does not read are bounded in memory, together', async () => {
    const uploads = Number(process.env.FAULT_UPLOADS ?? 40);
    const budget = 32 * 1024 * 1024;
    const { stalled, upstream } = await stalledUpstream(budget, 5000);
    const memory = watchMemory(stalled.pid);
    const before = residentBytes(stalled.pid);
    const sockets = startUploads(stalled.dataPort, uploads);
    expect(await untilStill(sockets)).toBeLessThan(uploads);
    expect(await bodyMemory(stalled)).toBeLessThanOrEqual(budget);
    expect((await rawExchange(stalled.dataPort, rig.request('GET', '/files/a'))).status).toBe(200);
    for (const socket of sockets) socket.destroy();
    const most = memory.stop() - before;
    console.log(`${uploads} uploads of 100 MiB to a stalled upstream: ${Math.round(most / 2 ** 20)} MiB more at most`);
    // The budget, as much again that was refused and is not collected yet, and what the allocator keeps; however many.
    expect(most).toBeLessThan(budget * 2 + 64 * 1024 * 1024);
    await until(async () => (await bodyMemory(stalled)) === 0);
    upstream.close();
  });

  test('that upload to it count for as long as it does not read, and no longer', async () => {
    const { stalled, upstream } = await stalledUpstream(64 * 1024 * 1024, 60_000);
    const reading: Socket[] = [];
    upstream.on('connection', (socket: Socket) => reading.push(socket));
    const socket = connect({ port: stalled.dataPort, host: '127.0.0.1' });
    socket.write(rig.request('PUT', '/files/stalled', [`Content-Length: ${100 * 1024 * 1024}`]));
    // More than the kernel takes of it; and then nothing more comes that could tell of it.
    const sent = new Promise((resolve) => {
      socket.write(Buffer.alloc(16 * 1024 * 1024), resolve);
    });
    await until(async () => (await bodyMemory(stalled)) >= 256 * 1024);
    for (const one of reading) one.resume();
    await sent;
    await until(async () => (await bodyMemory(stalled)) === 0);
    expect(socket.destroyed).toBe(false);
    socket.destroy();
    upstream.close();
  });
});

test('signed bodies beyond the memory they may have are 503 overloaded, and nothing of them stays', async () => {
  const small = await rig.another({
    TOLLKEEPER_BODY_MEMORY_MAX: String(1024 * 1024),
    TOLLKEEPER_HMAC_MAX_BODY: '900000',
  });
  const signer = await rig.installation.token('acme', '--scopes', 'files', '--mode', 'hmac');
  const lines = [
    `X-Tollkeeper-Token: ${signer.id}`,
    `X-Tollkeeper-Timestamp: ${Math.floor(Date.now() / 1000)}`,
    `X-Tollkeeper-Signature: ${'0'.repeat(64)}`,
    'Content-Length: 800000',
  ];
  const head = ['PUT /files/a HTTP/1.1', 'Host: store.test', ...lines, '', ''].join('\r\n');
  // Each stops one byte short, so that all are held at once.
  const held = await Promise.all(Array.from({ length: 4 }, () => openConnection(small.dataPort)));
  for (const connection of held) connection.send(head + 'x'.repeat(799_999));
  const answers = held.map((connection) => connection.answer().catch(() => undefined));
  const refused = await Promise.any(answers);
  expect([refused?.status, headersOf(refused?.head ?? '', 'Retry-After')]).toEqual([503, ['1']]);
  expect(refused?.body.toString()).toContain('overloaded');
  for (const { socket } of held) socket.resetAndDestroy();
  await until(async () => /^tollkeeper_body_memory_bytes 0$/m.test((await call(`${small.adminUrl}/metrics`)).text));
  expect((await rawExchange(small.dataPort, rig.request('GET', '/files/a'))).status).toBe(200);
});

test('more requests under way than may be are 503 overloaded at once; /readyz and the metrics say so', async () => {
  const few = await rig.another({ TOLLKEEPER_REQUESTS_IN_FLIGHT_MAX: '5' });
  const waiting: Socket[] = [];
  const path = rig.script('wait', (_, socket) => void waiting.push(socket));
  const held = Array.from({ length: 5 }, () => rawExchange(few.dataPort, rig.request('GET', path)));
  await until(() => waiting.length === 5);
  const refused = await rawExchange(few.dataPort, rig.request('GET', '/open/a'));
  expect([refused.status, headersOf(refused.head, 'Retry-After')]).toEqual([503, ['1']]);
  expect(refused.body.toString()).toContain('overloaded');
  const ready = await call(`${few.adminUrl}/readyz`);
  expect([ready.status, ready.text]).toEqual([503, expect.stringContaining('under way')]);
  expect((await call(`${few.adminUrl}/metrics`)).text).toMatch(/^tollkeeper_shedding 1$/m);
  for (const socket of waiting) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n');
  expect((await Promise.all(held)).map(({ status }) => status)).toEqual([200, 200, 200, 200, 200]);
  await until(async () => (await call(`${few.adminUrl}/readyz`)).status === 200);
});

test('a secret, wherever a client or an operator puts it, is in no log, stream, metric or error', async () => {
  const { secret } = rig.token;
  const planted = 'canary-5f0c6d1e9b7a4c3d';
  plantSecret(planted, 'a planted secret');
  const lines = (name: string): string[] => [`${name}: ${planted}`, 'Host: store.test'];
  const requests = [
    ['GET /files/a HTTP/1.1', ...lines('Authorization')],
    ['GET /files/a HTTP/1.1', ...lines('Authorization').map((line) => line.replace(': canary', ': Bearer canary'))],
    ['GET /files/a HTTP/1.1', ...lines('Authorization').map((line) => line.replace(': canary', ': Basic canary'))],
    ['GET /files/a HTTP/1.1', ...lines('X-API-Key')],
    ['GET /files/a HTTP/1.1', ...lines('Cookie')],
    ['GET /files/a HTTP/1.1', ...lines('X-Tollkeeper-Signature')],
    ['GET /files/a HTTP/1.1', ...lines('X-Tollkeeper-Nonce')],
    ['GET /files/a HTTP/1.1', ...lines('Signature-Input'), `Signature: ${planted}`],
    ['GET /files/a HTTP/1.1', ...lines('Proxy-Authorization')],
    [`GET /files/a?access_token=${planted}&token=${secret} HTTP/1.1`, 'Host: store.test'],
    [`GET /open/a?token=${secret} HTTP/1.1`, 'Host: store.test'],
    [`GET /files/${secret} HTTP/1.1`, 'Host: store.test'],
    [`GET /files/a HTTP/1.1`, 'Host: store.test', `User-Agent: ${secret}`, `X-Request-Id: ${secret}`],
    ['GET /files/a HTTP/1.1', 'Host: store.test', `Authorization: Bearer ${secret}`, `Authorization: Bearer ${secret}`],
    ['GET /files/a HTTP/1.1', 'Host: store.test', `Authorization: Bearer ${secret.slice(0, -1)}`],
  ];
  for (const request of requests) {
    const { raw } = await rawExchange(rig.sidecar.dataPort, `${request.join('\r\n')}\r\n\r\n`);
    expect(raw.toString('latin1')).not.toContain(planted);
    expect(raw.toString('latin1')).not.toContain(secret);
  }
  const bad: Record<string, string>[] = [
    { TOLLKEEPER_REDIS_URL: `redis://user:${planted}@127.0.0.1:1` },
    { TOLLKEEPER_REDIS_URL: `nonsense:${planted}` },
    { TOLLKEEPER_MASTER_KEY: planted },
    { TOLLKEEPER_ADMIN_KEY: `${planted} ` },
  ];
  for (const env of bad) {
    // With a Redis that is merely away `serve` starts, and waits for it.
    const starts = env.TOLLKEEPER_REDIS_URL?.startsWith('redis:') === true;
    for (const command of [['doctor'], ['token', 'list'], ...(starts ? [] : [['serve']])]) {
      const { code, stdout, stderr } = await runCommand(command, {
        ...rig.installation.env,
        TOLLKEEPER_LISTEN: '127.0.0.1:0',
        ...env,
      });
      expect(code).not.toBe(0);
      expect(stdout + stderr).not.toContain(planted);
    }
  }
  // What the sidecar printed and exported, and what Redis holds, is searched when the rig stops.
});
