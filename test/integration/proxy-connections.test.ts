/** Connections on both sides: reuse, closing, pipelining, clients that leave, stale keep-alive, TLS. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { type AddressInfo, type Socket, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runCommand } from '../support/cli.js';
import { startLoopClock } from '../support/loop-clock.js';
import { type ProxyRig, startProxyRig } from '../support/proxy-rig.js';
import { type RawResponse, type RawResult, headerOf, rawExchange } from '../support/raw-client.js';
import { type RawConnection, openConnection } from '../support/raw-connection.js';
import { type Sidecar, startSidecar } from '../support/sidecar.js';
import { until } from '../support/until.js';
import { type RawUpstream, startRawUpstream, startStreamingUpstream } from '../support/upstream.js';

let rig: ProxyRig;

beforeAll(async () => {
  rig = await startProxyRig();
});

afterAll(() => rig.stop());

const okAnswer = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';

function slug({ body }: RawResponse): string {
  return (JSON.parse(body.toString()) as { type: string }).type.replace(/^.*\//, '');
}

describe("a client's connection", () => {
  test('carries one request after another, also after 401, 403, 404, 405 for the route and 429', async () => {
    const limited = await rig.installation.token('acme', '--scopes', 'files', '--limit', '1', '--window', '3600');
    rig.script('missing', 'HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n');
    const connection = await rig.connect();
    const statuses: number[] = [];
    const send = async (bytes: string): Promise<void> => {
      connection.send(bytes);
      statuses.push((await connection.answer()).status);
    };
    await send(rig.request('GET', '/files/a'));
    await send('GET /files/a HTTP/1.1\r\nHost: store.test\r\n\r\n');
    await send('GET /files/a HTTP/1.1\r\nHost: store.test\r\nAuthorization: Bearer nonsense\r\n\r\n');
    await send(rig.request('GET', '/secrets/a'));
    await send(rig.request('GET', '/nowhere/a'));
    await send(rig.request('GET', '/files/missing'));
    await send(rig.request('POST', '/files/a', ['Content-Length: 5'], 'hello'));
    const asLimited = rig.request('GET', '/files/a').replace(rig.token.secret, limited.secret);
    for (let time = 0; time < 3; time++) await send(asLimited);
    await send(rig.request('GET', '/files/a'));
    expect(statuses).toEqual([200, 401, 401, 403, 403, 404, 200, 200, 429, 429, 200]);
    connection.close();
  });

  test('carries on after a refusal of a request whose short body comes later', async () => {
    const connection = await rig.connect();
    connection.send('POST /files/a HTTP/1.1\r\nHost: store.test\r\nContent-Length: 60000\r\n\r\n');
    connection.send(Buffer.alloc(1000));
    await until(() => connection.socket.bytesWritten > 1000);
    connection.send(Buffer.alloc(59_000));
    const refused = await connection.answer();
    expect([refused.status, slug(refused)]).toEqual([401, 'missing-credentials']);
    connection.send(rig.request('GET', '/files/a'));
    expect((await connection.answer()).status).toBe(200);
    connection.close();
  });

  test('gets the refusal of a short body that never comes, within two seconds and with the close', async () => {
    const connection = await rig.connect();
    connection.send('POST /files/a HTTP/1.1\r\nHost: store.test\r\nContent-Length: 60000\r\n\r\n1234');
    const clock = startLoopClock();
    const refused = await connection.answer();
    expect([refused.status, headerOf(refused.head, 'Connection')]).toEqual([401, 'close']);
    expect(clock.now()).toBeLessThan(3000);
    clock.stop();
    expect(await connection.ended()).toHaveLength(0);
  });

  test('is closed at once by the refusal of a large body', async () => {
    const connection = await rig.connect();
    connection.send('POST /files/a HTTP/1.1\r\nHost: store.test\r\nContent-Length: 100000000\r\n\r\n1234');
    const refused = await connection.answer();
    expect([refused.status, headerOf(refused.head, 'Connection')]).toEqual([401, 'close']);
    expect(await connection.ended()).toHaveLength(0);
  });

  test.each(['close', 'Close', 'close, x-other'])('ends after its answer when the request says %j', async (value) => {
    const drip = rig.script('drip', (_, socket) => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n12', () => setTimeout(() => socket.write('34'), 50));
      return undefined;
    });
    for (const path of ['/files/a', drip]) {
      const connection = await rig.connect();
      connection.send(rig.request('GET', path, [`Connection: ${value}`]));
      const answer = await connection.answer();
      expect(answer.status).toBe(200);
      expect(headerOf(answer.head, 'Connection')).toBe('close');
      expect(headerOf(answer.head, 'Content-Length')).toBeDefined();
      // The binding itself knows a streamed answer's close by the plain word only; the client closes then.
      if (path === '/files/a' || value.length === 5) await connection.ended();
      connection.close();
    }
  });

  test('with a second request sent along (pipelined) is closed: nothing of the second goes upstream', async () => {
    for (const [first, second] of [
      ['/files/a', '/files/second'],
      ['/open/a', '/open/second'],
    ] as const) {
      const connection = await rig.connect();
      connection.send(rig.request('GET', first) + rig.request('GET', second));
      const unread = await connection.ended();
      expect(unread.toString('latin1').match(/HTTP\/1\.1 /g)?.length ?? 0).toBeLessThanOrEqual(1);
      expect(rig.seen(second)).toHaveLength(0);
    }
  });
});

describe('a client that leaves', () => {
  /** The upstream's sockets for `name`, and a promise that the first of them is closed. */
  function watched(
    name: string,
    answer: string | undefined,
  ): { path: string; closed: Promise<unknown>; begun(): boolean } {
    let socket: Socket | undefined;
    let close: () => void = () => {};
    const closed = new Promise<void>((resolve) => {
      close = resolve;
    });
    const path = rig.script(name, (_, its) => {
      socket = its;
      its.once('close', close);
      return answer;
    });
    return { path, closed, begun: () => socket !== undefined };
  }

  test('while it waits cancels the upstream request and is logged as client-closed', async () => {
    const { path, closed, begun } = watched('leave-waiting', undefined);
    const connection = await rig.connect();
    connection.send(rig.request('GET', path, ['X-Request-Id: leave-waiting']));
    await until(begun);
    connection.close();
    await closed;
    expect(await rig.logged('leave-waiting')).toMatchObject({ status: '499', outcome: 'client-closed' });
  });

  test('while it downloads cancels the upstream request and is logged as client-closed', async () => {
    const head = 'HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nhello';
    const { path, closed } = watched('leave-downloading', head);
    const connection = await rig.connect();
    connection.send(rig.request('GET', path, ['X-Request-Id: leave-downloading']));
    await connection.bytes((bytes) => bytes.includes('hello'));
    connection.close();
    await closed;
    expect(await rig.logged('leave-downloading')).toMatchObject({
      status: '200',
      outcome: 'client-closed',
      bytesOut: '5',
    });
  });

  test.each(['close', 'reset'])('while it uploads (%s) cancels the upstream request and is logged', async (how) => {
    let received = 0;
    let cancelled = false;
    const upstream = await startStreamingUpstream((request) => {
      request.on('data', (chunk: Buffer) => {
        received += chunk.length;
      });
      request.on('error', () => {});
      request.on('close', () => {
        cancelled = !request.complete;
      });
    });
    const sidecar = await rig.another({ TOLLKEEPER_UPSTREAM: upstream.url });
    const connection = await openConnection(sidecar.dataPort);
    const id = `leave-uploading-${how}`;
    connection.send(rig.request('PUT', '/files/a', ['Content-Length: 1000000', `X-Request-Id: ${id}`]));
    connection.send(Buffer.alloc(100_000));
    await until(() => received === 100_000);
    if (how === 'reset') connection.socket.resetAndDestroy();
    else connection.close();
    await until(() => cancelled);
    expect(await rig.logged(id)).toMatchObject({ status: '499', outcome: 'client-closed', bytesIn: '100000' });
    expect(await sidecar.stop()).toBe(0);
    await upstream.stop();
  });

  test('a thousand times leaves no connection to the upstream behind', async () => {
    const open = new Set<Socket>();
    const path = rig.script('crowd', (_, socket) => {
      open.add(socket);
      socket.once('close', () => open.delete(socket));
      return Math.random() < 0.5 ? undefined : 'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhello';
    });
    const before = rig.seen(path).length;
    for (let round = 0; round < 10; round++) {
      const connections = await Promise.all(Array.from({ length: 100 }, () => rig.connect()));
      for (const connection of connections) connection.send(rig.request('GET', path));
      await until(() => rig.seen(path).length >= before + (round + 1) * 100);
      for (const connection of connections) connection.close();
      await until(() => open.size === 0);
    }
    expect((await rig.exchange('GET', '/files/a')).status).toBe(200);
  });
});

/** An upstream that answers the first bytes it gets, by the last segment of their path, and reads no further. */
async function startHasty(answers: ReadonlyMap<string, string>): Promise<{ url: string; stop(): Promise<void> }> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.once('data', (head: Buffer) => {
      socket.pause();
      const [, name = ''] = /\/files\/(\S+) HTTP/.exec(head.toString('latin1')) ?? [];
      socket.write(answers.get(name) ?? '');
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async stop() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

describe('an upload', () => {
  const early = [
    ['at once', 'HTTP/1.1 422 No\r\nContent-Length: 4\r\n\r\nnope'],
    ['at once and closes', 'HTTP/1.1 422 No\r\nConnection: close\r\nContent-Length: 4\r\n\r\nnope'],
    ['without a body', 'HTTP/1.1 422 No\r\nContent-Length: 0\r\n\r\n'],
    ['in chunks', 'HTTP/1.1 422 No\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nnope\r\n0\r\n\r\n'],
    ['by 204', 'HTTP/1.1 204 No\r\n\r\n'],
  ] as const;
  const nameOf = (how: string): string => how.replaceAll(' ', '-');
  let upstream: Awaited<ReturnType<typeof startHasty>>;
  let sidecar: Sidecar;
  beforeAll(async () => {
    upstream = await startHasty(new Map(early.map(([how, bytes]) => [nameOf(how), bytes])));
    sidecar = await rig.another({ TOLLKEEPER_UPSTREAM: upstream.url });
  });
  afterAll(async () => {
    expect(await sidecar.stop()).toBe(0);
    await upstream.stop();
  });

  test.each(early)(
    'that the upstream answers early (%s) brings that answer to who stops and to who goes on',
    async (how, bytes) => {
      for (const goesOn of [false, true]) {
        const connection = await openConnection(sidecar.dataPort);
        connection.send(rig.request('PUT', `/files/${nameOf(how)}`, ['Content-Length: 3000000']));
        connection.send(Buffer.alloc(100_000));
        if (goesOn) setTimeout(() => connection.send(Buffer.alloc(2_900_000)), 100);
        const answer = await connection.answer('PUT');
        expect(answer.status).toBe(Number(bytes.slice(9, 12)));
        expect(answer.body.toString()).toBe(bytes.includes('nope') ? 'nope' : '');
        connection.close();
      }
    },
  );
});

describe('the upstream', () => {
  /** An upstream that answers the first request of each connection and gives up the connection at the second. */
  async function startGivingUp(how: (socket: Socket) => void): Promise<{ upstream: RawUpstream; asked(): number }> {
    const served = new WeakSet<Socket>();
    let requests = 0;
    const upstream = await startRawUpstream((_, socket) => {
      requests += 1;
      if (served.has(socket)) {
        how(socket);
        return undefined;
      }
      served.add(socket);
      return okAnswer;
    });
    return { upstream, asked: () => requests };
  }

  test.each([
    ['FIN', (socket: Socket) => void socket.end()],
    ['RST', (socket: Socket) => void socket.resetAndDestroy()],
  ])('that gave up a kept connection (%s) is asked once more on another one, but never for POST', async (_, how) => {
    const { upstream, asked } = await startGivingUp(how);
    const sidecar = await rig.another({
      TOLLKEEPER_UPSTREAM: upstream.url,
      TOLLKEEPER_UPSTREAM_CONNECTIONS_MAX: '1',
    });
    const ask = async (method: string): Promise<number> => {
      const lines = method === 'GET' ? [] : ['Content-Length: 5'];
      const body = method === 'GET' ? '' : 'hello';
      return (await rawExchange(sidecar.dataPort, rig.request(method, '/files/a', lines, body))).status;
    };
    expect([await ask('GET'), asked()]).toEqual([200, 1]);
    expect([await ask('GET'), asked()]).toEqual([200, 3]); // lost, then on a new connection
    expect([await ask('PUT'), asked()]).toEqual([200, 5]); // may be repeated too, its body is at hand
    expect([await ask('POST'), asked()]).toEqual([502, 6]); // lost, and that is the end of it
    expect([await ask('POST'), asked()]).toEqual([200, 7]); // on a new connection
    expect(await sidecar.stop()).toBe(0);
    await upstream.stop();
  });

  test('that closes every connection is asked once only: it is not the connection that was stale', async () => {
    const upstream = await startRawUpstream((_, socket) => {
      socket.resetAndDestroy();
      return undefined;
    });
    const sidecar = await rig.another({ TOLLKEEPER_UPSTREAM: upstream.url });
    const answer = await rawExchange(sidecar.dataPort, rig.request('GET', '/files/a'));
    expect(answer.status).toBe(502);
    expect(upstream.text().match(/^GET /gm)).toHaveLength(1);
    expect(await sidecar.stop()).toBe(0);
    await upstream.stop();
  });

  test('that began an answer before it gave up is not asked again', async () => {
    const served = new WeakSet<Socket>();
    const upstream = await startRawUpstream((_, socket) => {
      if (!served.has(socket)) {
        served.add(socket);
        return okAnswer;
      }
      socket.end('HTTP/1.1 20');
      return undefined;
    });
    const sidecar = await rig.another({ TOLLKEEPER_UPSTREAM: upstream.url });
    const statuses: number[] = [];
    for (let time = 0; time < 2; time++) {
      statuses.push((await rawExchange(sidecar.dataPort, rig.request('GET', '/files/a'))).status);
    }
    expect(statuses).toEqual([200, 502]);
    expect(upstream.text().match(/^GET /gm)).toHaveLength(2);
    expect(await sidecar.stop()).toBe(0);
    await upstream.stop();
  });

  test('is asked over one connection by requests that follow each other', async () => {
    const before = rig.upstream.received.length;
    const connection = await rig.connect();
    for (let time = 0; time < 20; time++) {
      connection.send(rig.request('GET', '/files/a'));
      await connection.answer();
    }
    connection.close();
    expect(rig.upstream.received.length - before).toBeLessThanOrEqual(1);
  });

  test('is asked over at most upstreamConnectionsMax connections; beyond the queue the answer is 503 overloaded', async () => {
    const pending: Socket[] = [];
    const upstream = await startRawUpstream((_, socket) => {
      pending.push(socket);
      return undefined;
    });
    const sidecar = await rig.another({
      TOLLKEEPER_UPSTREAM: upstream.url,
      TOLLKEEPER_UPSTREAM_CONNECTIONS_MAX: '2',
    });
    const refused: RawResult[] = [];
    const exchanges = Array.from({ length: 12 }, async (_, sent) => {
      const answer = await rawExchange(sidecar.dataPort, rig.request('GET', sent < 10 ? '/files/a' : '/open/a'));
      if (answer.status === 503) refused.push(answer);
      return answer.status;
    });
    // Two are asked about, four times as many wait, and for two there is no room.
    await until(() => refused.length === 2 && pending.length === 2);
    for (let answered = 0; answered < 10; answered++) {
      await until(() => pending.length > 0);
      expect(upstream.received.length - answered).toBeLessThanOrEqual(2);
      pending.shift()?.write(okAnswer);
    }
    const statuses = (await Promise.all(exchanges)).toSorted((one, other) => one - other);
    expect(statuses).toEqual([...Array.from({ length: 10 }, () => 200), 503, 503]);
    const [overloaded] = refused as [RawResult];
    expect([slug(overloaded), headerOf(overloaded.head, 'Retry-After')]).toEqual(['overloaded', '1']);
    expect(await sidecar.stop()).toBe(0);
    await upstream.stop();
  });
});

describe('the listener', () => {
  let dir: string;
  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), 'tk-tls-'));
    const args = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
    const names = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'];
    execFileSync('openssl', [...args, ...names, '-keyout', 'tls.key', '-out', 'tls.pem'], { cwd: dir, stdio: 'pipe' });
  });
  afterAll(() => rmSync(dir, { recursive: true, force: true }));

  test('speaks TLS with its own certificate: small and large bodies both ways, https told to the upstream', async () => {
    const large = Buffer.from(Array.from({ length: 2_000_000 }, (_, at) => (at * 31) % 256));
    const upstream = await startStreamingUpstream((request, response) => {
      response.setHeader('X-Proto', String(request.headers['x-forwarded-proto']));
      if (request.method === 'PUT') request.pipe(response);
      else response.end(large);
    });
    const sidecar = await rig.another({
      TOLLKEEPER_UPSTREAM: upstream.url,
      TOLLKEEPER_TLS_CERT: join(dir, 'tls.pem'),
      TOLLKEEPER_TLS_KEY: join(dir, 'tls.key'),
    });
    const ca = readFileSync(join(dir, 'tls.pem'));
    const connection: RawConnection = await openConnection(sidecar.dataPort, { ca, servername: 'localhost' });
    connection.send(rig.request('GET', '/files/a'));
    const down = await connection.answer();
    expect(down.body.equals(large)).toBe(true);
    expect(headerOf(down.head, 'X-Proto')).toBe('https');
    connection.send(rig.request('PUT', '/files/a', [`Content-Length: ${large.length}`]));
    connection.send(large);
    expect((await connection.answer()).body.equals(large)).toBe(true);
    connection.close();
    // Clear text on the TLS port gets no answer, and harms nobody.
    expect((await rawExchange(sidecar.dataPort, rig.request('GET', '/files/a'), { timeoutMs: 1000 })).status).toBe(0);
    expect(await sidecar.stop()).toBe(0);
    await upstream.stop();
  });

  test('whose certificate cannot be read stops the start with one sentence', async () => {
    const env = {
      ...rig.installation.env,
      TOLLKEEPER_LISTEN: '127.0.0.1:0',
      TOLLKEEPER_VERIFY_LISTEN: 'off',
      TOLLKEEPER_ADMIN_LISTEN: '127.0.0.1:0',
      TOLLKEEPER_TLS_CERT: join(dir, 'nowhere.pem'),
      TOLLKEEPER_TLS_KEY: join(dir, 'tls.key'),
    };
    const { code, stderr } = await runCommand(['serve'], env);
    expect(code).toBe(1);
    expect(stderr).toContain('nowhere.pem');
    expect(stderr.trim().split('\n')).toHaveLength(1);
  });

  test('whose port is taken stops the start with one sentence and exit code 1', async () => {
    const env = {
      ...rig.installation.env,
      TOLLKEEPER_LISTEN: `127.0.0.1:${rig.sidecar.dataPort}`,
      TOLLKEEPER_VERIFY_LISTEN: 'off',
      TOLLKEEPER_ADMIN_LISTEN: '127.0.0.1:0',
    };
    const { code, stderr } = await runCommand(['serve'], env);
    expect(code).toBe(1);
    expect(stderr.trim().split('\n')).toHaveLength(1);
    expect(stderr).toContain(`127.0.0.1:${rig.sidecar.dataPort}`);
    expect(stderr).toContain('TOLLKEEPER_LISTEN');
    await expect(startSidecar({ env })).rejects.toThrow(/another process listens there/);
  });
});
