/** The upstream down, silent, cut off or lying: what callers see, that nothing runs twice, and that nothing is lost. */
import { connect, type Socket } from 'node:net';
import { afterEach, expect, onTestFinished, test } from 'vitest';
import { endProcess, spawnTied } from '../support/process.js';
import { until } from '../support/until.js';
import { startFaultRig, type FaultRig } from './fault-rig.js';

let rig: FaultRig;

afterEach(() => rig.stop());

const env = {
  TOLLKEEPER_REDIS_COMMAND_TIMEOUT_MS: '20000',
  // Of a stalled upstream it is waited for; a whole answer must come within it on a busy machine.
  TOLLKEEPER_UPSTREAM_TIMEOUT_MS: '3000',
  TOLLKEEPER_UPSTREAM_CONNECT_TIMEOUT_MS: '700',
};

test('refused, stalled, reset and cut upstreams are 502 or 504 and never a hang; a POST runs at most once', async () => {
  rig = await startFaultRig({
    env,
    upstream: (request, response) => {
      request.resume();
      request.on('end', () => response.end('x'.repeat(1000)));
    },
  });
  const load = rig.keepSending(4);
  const post = (): ReturnType<FaultRig['send']> => rig.send('/files/a', { method: 'POST', body: 'charge me' });
  const round = async (): Promise<Set<string>> => {
    const calls = [...(await rig.burst(20)), ...(await Promise.all(Array.from({ length: 10 }, post)))];
    return new Set(calls.map(({ status, slug, cut }) => (cut ? 'cut' : slug === '' ? String(status) : slug)));
  };
  expect(await round()).toEqual(new Set(['200']));

  rig.upstreamLink.fail({ kind: 'reset' });
  expect(await round()).toEqual(new Set(['upstream-unreachable']));

  rig.upstreamLink.fail({ kind: 'stalled' });
  for (const outcome of await round()) expect(['upstream-timeout', 'upstream-unreachable']).toContain(outcome);

  rig.upstreamLink.fail({ kind: 'cut-after-request' });
  for (const outcome of await round()) expect(['upstream-unreachable', 'upstream-invalid-response']).toContain(outcome);

  // Within the answer: what came is recognisably not all, or it is an error; never a whole answer of less.
  rig.upstreamLink.fail({ kind: 'cut-after', bytes: 300 });
  for (const outcome of await round()) {
    expect(['cut', 'upstream-unreachable', 'upstream-invalid-response']).toContain(outcome);
  }

  rig.upstreamLink.fail({ kind: 'none' });
  await rig.untilAnswered(200);
  expect(await round()).toEqual(new Set(['200']));
  await load.stop();
  await rig.check({ mayRepeat: true });
});

test('an upstream that nobody listens at is 502 at once, charged once and logged', async () => {
  rig = await startFaultRig({ env, token: ['--limit', '10', '--window', '3600'] });
  await rig.upstreamLink.stop();
  const calls = await rig.burst(15, '/files/a', 3);
  const outcomes = calls.map(({ slug }) => slug).sort();
  expect(outcomes.filter((slug) => slug === 'upstream-unreachable')).toHaveLength(10);
  expect(outcomes.filter((slug) => slug === 'rate-limit-exceeded')).toHaveLength(5);
  await rig.check();
});

/** A server that listens and accepts nobody, its backlog filled: the kernel swallows every further SYN. */
async function startDeafServer(): Promise<number> {
  const source = `
    const server = require('node:net').createServer();
    server.listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
      require('node:fs').writeSync(1, server.address().port + '\\n');
      process.kill(process.pid, 'SIGSTOP');
    });`;
  const child = spawnTied(process.execPath, ['-e', source], { stdio: ['ignore', 'pipe', 'inherit'] });
  onTestFinished(() => endProcess(child, 'SIGKILL'));
  const port = await new Promise<number>((resolve) => {
    child.stdout?.once('data', (chunk: Buffer) => resolve(Number(chunk.toString())));
  });
  const fillers: Socket[] = [];
  onTestFinished(() => fillers.forEach((socket) => void socket.destroy()));
  const connected = (): number => fillers.filter(({ connecting }) => !connecting).length;
  // It is full when one that was begun has not come about while a later turn of the loop has passed for all.
  await until(() => {
    if (fillers.length < 16) fillers.push(connect({ port, host: '127.0.0.1' }).on('error', () => {}));
    return fillers.length === 16 && connected() > 0 && connected() < 16;
  });
  return port;
}

test('an upstream whose packets go nowhere (a full backlog, a route that leads nowhere) is 502 in the time for connecting, and gets nothing', async () => {
  const port = await startDeafServer();
  rig = await startFaultRig({ env, sidecars: 0 });
  await rig.another({ TOLLKEEPER_UPSTREAM: `http://127.0.0.1:${port}` });
  const calls = [
    ...(await rig.burst(20)),
    await rig.send('/files/a', { method: 'POST', body: 'charge me' }),
    await rig.send('/open/a'),
  ];
  for (const { status, slug, waitedMs } of calls) {
    expect([status, slug]).toEqual([502, 'upstream-unreachable']);
    // 700 ms, and room for the sidecar on a busy machine.
    expect(waitedMs).toBeLessThan(1400);
  }
  await rig.check();
});

test('an upstream that resets kept connections at random loses no GET, and runs no POST twice', async () => {
  const requestsOf = new WeakMap<Socket, number>();
  let resets = 0;
  rig = await startFaultRig({
    // Nothing is late here: the deadline is not the matter.
    env: { ...env, TOLLKEEPER_UPSTREAM_TIMEOUT_MS: '20000', TOLLKEEPER_UPSTREAM_CONNECT_TIMEOUT_MS: '20000' },
    upstream: (request, response) => {
      const { socket } = request;
      const before = requestsOf.get(socket) ?? 0;
      requestsOf.set(socket, before + 1);
      if (before > 0 && Math.random() < 0.3) {
        resets += 1;
        socket.resetAndDestroy();
        return;
      }
      request.resume();
      request.on('end', () => response.end('ok'));
    },
  });
  const load = rig.keepSending(4);
  const posts = await Promise.all(
    Array.from({ length: 8 }, async () => {
      const calls = [];
      for (let count = 0; count < 50; count += 1) {
        calls.push(await rig.send('/files/a', { method: 'POST', body: 'charge me' }));
      }
      return calls;
    }),
  );
  await until(() => resets > 100);
  const gets = await load.stop();
  expect(new Set(gets.map(({ status }) => status))).toEqual(new Set([200]));
  // A POST that was lost is said to be: whether it ran only the upstream knows.
  const outcomes = new Set(posts.flat().map(({ status, slug }) => `${status} ${slug}`));
  expect(outcomes).toEqual(new Set(['200 ', '502 upstream-unreachable']));
  expect(Object.keys(rig.history.outcomes()).sort()).toEqual(['ok', 'upstream-unreachable']);
  await rig.check({ mayRepeat: true });
});
