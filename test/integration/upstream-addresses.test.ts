/** Several addresses of one upstream: shared out, set aside when they fail, and back when they have proved themselves. */
import { type IncomingMessage, createServer, type Server, type ServerResponse } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { runCommand } from '../support/cli.js';
import { type ClientSettings, ask, send, startClient } from '../support/upstream-client.js';
import type { Upstream } from '../../src/upstream/upstream.js';
import { startInstallation } from '../support/installation.js';
import { call } from '../support/http-client.js';
import { until } from '../support/until.js';

/** An upstream that says who it is, and can be killed and started again on its port. */
class Api {
  readonly #name: string;
  #server: Server | undefined;
  port = 0;
  requests = 0;
  checks = 0;
  /** Answers instead of the usual. */
  answer: (request: IncomingMessage, response: ServerResponse) => void = (_, response) => response.end(this.#name);
  health = 200;

  constructor(name: string) {
    this.#name = name;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  async start(): Promise<this> {
    const server = createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
      if (request.url === '/healthz') {
        this.checks += 1;
        response.writeHead(this.health).end();
        return;
      }
      this.requests += 1;
      this.answer(request, response);
    });
    server.listen(this.port, '127.0.0.1');
    await once(server, 'listening');
    this.port = (server.address() as AddressInfo).port;
    this.#server = server;
    return this;
  }

  /** As SIGKILL would: every connection is reset, nobody listens. */
  async kill(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    this.#server = undefined;
    const closed = once(server, 'close');
    server.close();
    server.closeAllConnections();
    await closed;
  }
}

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

async function twoApis(): Promise<[Api, Api]> {
  const apis: [Api, Api] = [await new Api('a').start(), await new Api('b').start()];
  cleanups.push(...apis.map((api) => () => api.kill()));
  return apis;
}

function clientTo(apis: readonly Api[], settings: ClientSettings = {}): Upstream {
  const client = startClient(
    apis.map(({ url }) => url),
    settings,
  );
  cleanups.push(() => client.close());
  return client;
}

const withPath = { ejectAfter: 3, ejectMs: 1, path: '/healthz', intervalMs: 20, timeoutMs: 5000, successes: 2 };

describe('two addresses', () => {
  test('share the requests: whoever has the fewest under way gets the next', async () => {
    const [a, b] = await twoApis();
    const client = clientTo([a, b]);
    await Promise.all(Array.from({ length: 40 }, () => ask(client)));
    expect([a.requests, b.requests]).toEqual([20, 20]);
    const held: ServerResponse[] = [];
    a.answer = (_, response) => held.push(response);
    const asked = Array.from({ length: 10 }, () => send(client));
    await until(() => held.length === 5);
    for (let time = 0; time < 10; time++) await ask(client);
    // Those under way at `a` are waited for; each new one went to `b`.
    expect([a.requests, b.requests]).toEqual([25, 35]);
    for (const response of held) response.end('a');
    await Promise.all(asked.map(({ listener }) => listener.until(() => listener.isOver)));
  });

  test('one is killed under load: no idempotent request fails but those under way there, and it comes back', async () => {
    const [a, b] = await twoApis();
    const events: string[] = [];
    const client = clientTo([a, b], {
      connectionsMax: 16,
      whenEjected: (address, isEjected) =>
        events.push(`${address === a.url ? 'a' : 'b'} ${isEjected ? 'out' : 'back'}`),
    });
    let going = true;
    let answered = 0;
    const failed: string[] = [];
    const loop = async (): Promise<void> => {
      while (going) {
        const verdict = await ask(client);
        if (verdict === '200 a' || verdict === '200 b') answered += 1;
        else failed.push(verdict);
      }
    };
    const load = Array.from({ length: 16 }, loop);
    await until(() => a.requests > 200 && b.requests > 200);
    await a.kill();
    await until(() => events.includes('a out'));
    const [atKill, failedAtKill] = [answered, failed.length];
    await until(() => answered > atKill + 2000);
    // Whatever was cut was under way at that moment: 16 requests at most, and none after.
    expect(failedAtKill).toBeLessThanOrEqual(16);
    expect(failed).toHaveLength(failedAtKill);
    const before = a.requests;
    await a.start();
    await until(() => events.includes('a back') && a.requests > before + 200);
    going = false;
    await Promise.all(load);
    expect(failed).toHaveLength(failedAtKill);
    expect(client.ejected).toBe(0);
  });

  test('one refuses connections: requests of any method go to the other, since nothing was sent', async () => {
    const [a, b] = await twoApis();
    const client = clientTo([a, b], { health: { ...withPath, path: undefined, ejectAfter: 1000 } });
    await a.kill();
    const asked = Array.from({ length: 20 }, () => ask(client, { method: 'POST', body: Buffer.from('once') }));
    expect(new Set(await Promise.all(asked))).toEqual(new Set(['200 b']));
    expect(b.requests).toBe(20);
  });

  test('one breaks its answers: it is set aside, and tried with one request at a time', async () => {
    const [a, b] = await twoApis();
    const client = clientTo([a, b]);
    a.answer = (request) => request.socket.end('HTTP/1.1 garbage\r\n\r\n');
    const verdicts = new Set<string>();
    await until(async () => {
      verdicts.add(await ask(client));
      return client.ejected === 1;
    });
    expect(verdicts).toEqual(new Set(['200 b', '502 upstream-invalid-response']));
    const before = a.requests;
    // Set aside, it gets nothing until its time is over, then one.
    const held: ServerResponse[] = [];
    a.answer = (_, response) => held.push(response);
    const trials: ReturnType<typeof send>[] = [];
    await until(() => {
      trials.push(send(client));
      return held.length > 0;
    });
    for (let time = 0; time < 20; time++) expect(await ask(client)).toBe('200 b');
    expect(a.requests).toBe(before + 1);
    expect(client.ejected).toBe(1);
    held[0]?.end('a');
    await until(() => client.ejected === 0);
    await Promise.all(trials.map(({ listener }) => listener.until(() => listener.isOver)));
  });

  test('both fail: both are still asked, and the first that answers again is used', async () => {
    const [a, b] = await twoApis();
    const client = clientTo([a, b], { health: { ...withPath, path: undefined, ejectMs: 3_600_000 } });
    await Promise.all([a.kill(), b.kill()]);
    await until(async () => {
      expect(await ask(client)).toBe('502 upstream-unreachable');
      return client.ejected === 2;
    });
    await b.start();
    for (let time = 0; time < 5; time++) expect(await ask(client)).toBe('200 b');
  });
});

describe('health checks', () => {
  test('set an address aside before any request meets it, and bring it back after two good ones', async () => {
    const [a, b] = await twoApis();
    a.health = 503;
    const client = clientTo([a, b], { health: withPath });
    await until(() => client.ejected === 1);
    const before = a.requests;
    for (let time = 0; time < 20; time++) expect(await ask(client)).toBe('200 b');
    expect(a.requests).toBe(before);
    const checks = a.checks;
    a.health = 204;
    await until(() => client.ejected === 0);
    expect(a.checks).toBeGreaterThanOrEqual(checks + 2);
    await until(async () => (await ask(client)) === '200 a');
  });

  test('count a hanging, a dead and a garbled address as bad', async () => {
    for (const make of [
      (api: Api) => void (api.answer = () => {}),
      (api: Api) => api.kill(),
      (api: Api) => void (api.answer = (request) => request.socket.end('nonsense')),
    ]) {
      const [a, b] = await twoApis();
      await make(a);
      const client = clientTo([a, b], { health: { ...withPath, path: '/deep', timeoutMs: 500 } });
      await until(() => client.ejected === 1);
      expect(await ask(client)).toBe('200 b');
    }
  });
});

describe('the sidecar', () => {
  test('takes a list of addresses, logs and counts what happens to them, and doctor names each', async () => {
    const [a, b] = await twoApis();
    const installation = await startInstallation({
      policy: 'policy: { default: deny, routes: [{ methods: [GET], path: "/open/{name}", public: true }] }',
    });
    cleanups.push(() => installation.stop());
    await installation.tenant('acme');
    const env = {
      TOLLKEEPER_UPSTREAM: `${a.url},${b.url}`,
      TOLLKEEPER_UPSTREAM_HEALTH_PATH: '/healthz',
      TOLLKEEPER_UPSTREAM_HEALTH_INTERVAL_MS: '50',
    };
    const sidecar = await installation.sidecar({ env });
    const names = new Set<string>();
    await until(async () => names.add((await call(`${sidecar.dataUrl}/open/x`)).text).size === 2);
    await a.kill();
    const out = await sidecar.logged(({ msg }) => String(msg).includes('set aside'));
    expect(out).toMatchObject({ level: 'warn', address: a.url });
    const metrics = async (): Promise<string> => (await call(`${sidecar.adminUrl}/metrics`)).text;
    expect(await metrics()).toMatch(/^tollkeeper_upstream_ejected_addresses 1$/m);
    for (let time = 0; time < 10; time++) expect((await call(`${sidecar.dataUrl}/open/x`)).text).toBe('b');

    const doctor = await runCommand(['doctor', '--json'], { ...installation.env, ...env });
    const { checks } = JSON.parse(doctor.stdout) as { checks: { check: string; state: string; found: string }[] };
    const upstream = checks.filter(({ check }) => check === 'upstream');
    expect(upstream.map(({ found }) => found)).toEqual([`${a.url}: ECONNREFUSED`, `${b.url} takes connections`]);

    await a.start();
    await sidecar.logged(({ msg }) => String(msg).includes('answers again'));
    expect(await metrics()).toMatch(/^tollkeeper_upstream_health_changes_total\{change="returned"\} 1$/m);
    expect(await sidecar.stop()).toBe(0);
  });
});
