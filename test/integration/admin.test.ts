import { once } from 'node:events';
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import { connect as connectTcp } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { AdminServer, type AdminServerOptions } from '../../src/admin/server.js';
import { OperatorError } from '../../src/core/failure.js';
import { createLogger } from '../../src/telemetry/logger.js';
import { Metrics } from '../../src/telemetry/metrics.js';
import { samplesOf } from '../support/exposition.js';
import { startLoopClock } from '../support/loop-clock.js';

const running: AdminServer[] = [];
afterEach(async () => {
  for (const server of running.splice(0)) await server.close(100);
});

interface Started {
  readonly server: AdminServer;
  readonly address: string;
  readonly logged: Record<string, unknown>[];
}

async function start(options: Partial<AdminServerOptions> = {}): Promise<Started> {
  const logged: Record<string, unknown>[] = [];
  const server = new AdminServer({
    listen: '127.0.0.1:0',
    metrics: () => new Metrics('1').exposition(),
    readiness: () => ({ ready: true, reasons: [], warnings: [] }),
    logger: createLogger('info', {
      write: (line: string) => logged.push(JSON.parse(line) as Record<string, unknown>),
    }),
    ...options,
  });
  running.push(server);
  return { server, address: await server.listen(), logged };
}

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}

/** With node:http, since `fetch` does not let a test choose the Host. */
async function ask(
  address: string,
  path: string,
  method = 'GET',
  headers: Record<string, string> = {},
): Promise<Answer> {
  const [host, port] = [address.slice(0, address.lastIndexOf(':')), address.slice(address.lastIndexOf(':') + 1)];
  const request = httpRequest({ host, port, path, method, headers, agent: false });
  request.end();
  const [response] = (await once(request, 'response')) as [import('node:http').IncomingMessage];
  let text = '';
  for await (const chunk of response) text += String(chunk);
  return { status: response.statusCode ?? 0, headers: response.headers, text };
}

function problemOf(answer: Answer): Record<string, unknown> {
  expect(answer.headers['content-type']).toBe('application/problem+json');
  const problem = JSON.parse(answer.text) as Record<string, unknown>;
  expect(problem).toMatchObject({ status: answer.status, instance: answer.headers['x-request-id'] });
  return problem;
}

describe('health', () => {
  test('/healthz answers as long as the process lives, ready or not', async () => {
    const { address } = await start({ readiness: () => ({ ready: false, reasons: ['Redis is away.'], warnings: [] }) });
    const { status, text } = await ask(address, '/healthz');
    expect([status, JSON.parse(text)]).toEqual([200, { status: 'ok' }]);
    expect((await ask(address, '/healthz', 'HEAD')).status).toBe(200);
  });

  test('/readyz follows the readiness of the moment and names every reason', async () => {
    let reasons: string[] = [];
    let warnings: string[] = [];
    const { address } = await start({ readiness: () => ({ ready: reasons.length === 0, reasons, warnings }) });
    expect((await ask(address, '/readyz')).status).toBe(200);
    reasons = ['Redis does not answer.', 'Shutting down.'];
    const answer = await ask(address, '/readyz');
    expect(answer.status).toBe(503);
    expect(answer.headers['cache-control']).toBe('no-store');
    expect(problemOf(answer)).toMatchObject({
      type: 'https://tollkeeper.dev/problems/store-unavailable',
      detail: 'Redis does not answer. Shutting down.',
      reasons,
    });
    reasons = [];
    // A warning takes nobody out of service.
    warnings = ['Redis evicts keys.'];
    const warned = await ask(address, '/readyz');
    expect([warned.status, JSON.parse(warned.text)]).toEqual([200, { status: 'ready', warnings }]);
  });
});

test('/metrics is the text format of Prometheus', async () => {
  const metrics = new Metrics('9.9.9');
  metrics.observeRequest('ok', 'GET', 200, 0.01);
  const { address } = await start({ metrics: () => metrics.exposition() });
  const answer = await ask(address, '/metrics');
  expect(answer.status).toBe(200);
  expect(answer.headers['content-type']).toBe('text/plain; version=0.0.4; charset=utf-8');
  expect(samplesOf(answer.text).get('tollkeeper_request_duration_seconds_count')).toBe(1);
});

describe('what is not there is a problem document', () => {
  test('an unknown path is 404, a wrong method 405 with the right ones', async () => {
    const { address } = await start();
    const missing = await ask(address, '/nothing?x=1');
    expect(missing.status).toBe(404);
    expect(problemOf(missing)).toMatchObject({ type: 'about:blank', title: 'Not Found' });
    const wrong = await ask(address, '/metrics?x=1', 'POST');
    expect([wrong.status, wrong.headers.allow]).toEqual([405, 'GET, HEAD']);
    problemOf(wrong);
  });

  test('a path that cannot be read is 400 and its text is not repeated', async () => {
    const { address } = await start();
    const answer = await ask(address, '/%zz-canary');
    expect(answer.status).toBe(400);
    expect(problemOf(answer)).not.toHaveProperty('path');
    expect(answer.text).not.toContain('canary');
  });

  test('a failure inside is 500 without its message, which is logged', async () => {
    const { address, logged } = await start({ metrics: () => Promise.reject(new Error('canary')) });
    const answer = await ask(address, '/metrics');
    expect(answer.status).toBe(500);
    const problem = problemOf(answer);
    expect(answer.text).not.toContain('canary');
    expect(logged.find((line) => line.level === 'error')).toMatchObject({
      requestId: problem.instance,
      err: { message: 'canary' },
    });
  });
});

test('a Host that a stranger could point here is refused on every route, before anything is done', async () => {
  let asked = 0;
  const { address } = await start({
    hosts: ['gate.example.com'],
    metrics: () => {
      asked += 1;
      return Promise.resolve('');
    },
  });
  for (const path of ['/metrics', '/healthz', '/nothing']) {
    const answer = await ask(address, path, 'GET', { host: 'evil.example.net' });
    expect(answer.status).toBe(421);
    problemOf(answer);
  }
  expect(asked).toBe(0);
  expect((await ask(address, '/metrics', 'GET', { host: 'gate.example.com:9090' })).status).toBe(200);
});

describe('the listener', () => {
  test('says where it listens, and warns when that is beyond this machine', async () => {
    const local = await start();
    expect(local.logged).toMatchObject([{ msg: 'listening', plane: 'admin', address: local.address }]);
    expect(local.address).toMatch(/^127\.0\.0\.1:[1-9]\d+$/);
    const open = await start({ listen: '0.0.0.0:0' });
    expect(open.logged.map(({ level }) => level)).toEqual(['info', 'warn']);
  });

  test('an address that is taken is a sentence for the operator', async () => {
    const { address } = await start();
    const second = start({ listen: address });
    await expect(second).rejects.toThrow(OperatorError);
    await expect(second).rejects.toThrow(/cannot listen on 127\.0\.0\.1:\d+ \(EADDRINUSE\).*TOLLKEEPER_ADMIN_LISTEN/);
  });

  test('closing waits for no idle connection, and for a request that hangs no longer than its deadline', async () => {
    let entered = (): void => {};
    const inside = new Promise<void>((resolve) => {
      entered = resolve;
    });
    const { server, address } = await start({
      metrics: () => {
        entered();
        return new Promise(() => {});
      },
    });
    const port = Number(address.split(':')[1]);
    const idle = connectTcp(port, '127.0.0.1');
    await once(idle, 'connect');
    const hanging = connectTcp(port, '127.0.0.1');
    hanging.write('GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await inside;
    const closed = [once(idle, 'close'), once(hanging, 'close')];
    const clock = startLoopClock();
    await server.close(50);
    expect(clock.now()).toBeLessThan(2000);
    clock.stop();
    await Promise.all(closed);
  });
});
