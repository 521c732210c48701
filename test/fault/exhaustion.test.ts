/** A process that runs out of descriptors, of time or of memory: what it refuses, that it says so, and how it recovers. */
import { connect, type Socket } from 'node:net';
import type { ServerResponse } from 'node:http';
import { afterEach, expect, test } from 'vitest';
import { signRequest } from '../../src/sign/sign.js';
import { FreshConnections } from '../support/fresh-connections.js';
import { samplesOf } from '../support/exposition.js';
import { until } from '../support/until.js';
import { isAlive, two, workerPids } from '../support/workers.js';
import { type FaultRig, startFaultRig } from './fault-rig.js';
import type { Call } from './history.js';

let rig: FaultRig;
const sockets: Socket[] = [];

afterEach(async () => {
  release();
  await rig?.stop();
});

async function sample(name: string): Promise<number> {
  return samplesOf(await rig.metrics()).get(name) ?? Number.NaN;
}

/** Opens idle connections until a process has no descriptor left. */
async function exhaust(): Promise<void> {
  for (let count = 0; count < 500; count += 1) {
    const socket = connect({ port: rig.sidecars[0]?.dataPort as number, host: '127.0.0.1' });
    socket.on('error', () => {});
    sockets.push(socket);
  }
  await until(async () => (await sample('tollkeeper_descriptors_used_ratio')) > 0.99);
}

function release(): void {
  for (const socket of sockets.splice(0)) socket.destroy();
}

test('out of descriptors: who is connected is served, who connects waits and is served when there are some again', async () => {
  rig = await startFaultRig({ env: two, openFilesMax: 200 });
  const [sidecar] = rig.sidecars;
  // One after another, on a connection to the upstream that is there: a second one at once could need a new one.
  const load = rig.keepSending(1);
  await until(() => rig.history.calls.length > 50);
  await exhaust();
  const fresh = new FreshConnections(sidecar?.dataPort as number);
  let answered = 0;
  const late = Array.from({ length: 20 }, async () => {
    const call = await rig.history.call(fresh, '/files/a', { token: rig.token.secret });
    answered += 1;
    return call;
  });
  // Those that are connected are served meanwhile; so much has gone by that the others would be too.
  const before = rig.history.calls.length;
  await until(() => rig.history.calls.length > before + 200);
  expect(answered).toBeLessThan(20);
  release();
  const calls = [...(await Promise.all(late)), ...(await load.stop())];
  expect(new Set(calls.map(({ status, slug }) => `${status} ${slug}`))).toEqual(new Set(['200 ']));
  expect(await sample('tollkeeper_descriptors_used_ratio')).toBeLessThan(0.8);
  await rig.check();
});

test('out of descriptors: a request that needs a new connection to the upstream is refused 503, not called unreachable', async () => {
  rig = await startFaultRig({ env: { ...two, TOLLKEEPER_UPSTREAM_KEEP_ALIVE_MS: '0' }, openFilesMax: 200 });
  // Callers that are connected and never idle: a new connection of theirs would wait.
  const load = rig.keepSending(16);
  await until(() => rig.history.calls.length > 64);
  await exhaust();
  const before = rig.history.calls.length;
  await until(() => rig.history.calls.length > before + 64);
  const calls = rig.history.calls.slice(before);
  release();
  await load.stop();
  expect(outcomes(calls).filter((outcome) => outcome !== '200')).toEqual(['503 overloaded']);
  await rig.untilAnswered(200);
  await rig.check();
});

test('a worker that stood still answers what it can hold, refuses the rest 503, and /readyz tells before and after', async () => {
  rig = await startFaultRig({ env: { ...two, TOLLKEEPER_REQUESTS_IN_FLIGHT_MAX: '20' } });
  const [sidecar] = rig.sidecars;
  if (sidecar === undefined) throw new Error('no sidecar');
  const [stalled = 0] = workerPids(sidecar);
  process.kill(stalled, 'SIGSTOP');
  const fresh = new FreshConnections(sidecar.dataPort);
  const waiting = Array.from({ length: 300 }, () => rig.history.call(fresh, '/files/a', { token: rig.token.secret }));
  await until(async () => (await rig.readiness()).text.includes('does not answer'));
  expect((await rig.readiness()).status).toBe(503);
  process.kill(stalled, 'SIGCONT');
  const calls = await Promise.all(waiting);
  expect(outcomes(calls)).toEqual(['200', '503 overloaded']);
  expect(calls.filter(({ status, retryAfter }) => status === 503 && retryAfter !== '1')).toEqual([]);
  await until(async () => (await rig.readiness()).status === 200);
  expect(outcomes(await rig.burst(40, '/files/a', 8))).toEqual(['200']);
  expect(isAlive(stalled)).toBe(true);
  await rig.check();
});

function outcomes(calls: readonly Call[]): string[] {
  return [...new Set(calls.map(({ status, slug }) => `${status} ${slug}`.trim()))].toSorted();
}

test('a flood of signed bodies that holds up the event loop: what is more is refused 503, /readyz says so, and it is over with the flood', async () => {
  // The threshold is low, so that a flood of this size crosses it on a fast machine too.
  rig = await startFaultRig({
    env: { TOLLKEEPER_REDIS_COMMAND_TIMEOUT_MS: '20000', TOLLKEEPER_EVENT_LOOP_LAG_MAX_MS: '10' },
  });
  const signer = await rig.installation.token('acme', '--scopes', 'files', '--mode', 'hmac', '--limit', '1000000');
  const body = Buffer.alloc(2 ** 20, 'b');
  let flooding = true;
  const flood = Array.from({ length: 48 }, async () => {
    const calls: Call[] = [];
    while (flooding) {
      const { headers } = signRequest({ secret: signer.secret, method: 'PUT', url: '/files/a', body });
      calls.push(await rig.history.call(rig.pool(), '/files/a', { method: 'PUT', headers, body }));
    }
    return calls;
  });
  const small = rig.keepSending(4);
  let told = false;
  await until(async () => {
    told ||= (await rig.readiness()).text.includes('lags behind');
    return told && rig.history.outcomes().overloaded !== undefined;
  });
  flooding = false;
  const calls = (await Promise.all(flood)).flat();
  await small.stop();
  // A body that is refused may be cut off by its client, which sees the connection end while it sends.
  expect(outcomes(calls).filter((outcome) => outcome !== '0')).toEqual(['200', '503 overloaded']);
  await until(async () => (await rig.readiness()).status === 200);
  await until(async () => (await rig.send()).status === 200);
  await rig.check();
});

test('a heap that fills up: new requests are refused 503 before its end, and those under way are answered', async () => {
  const held: ServerResponse[] = [];
  let holds = true;
  rig = await startFaultRig({
    env: {
      TOLLKEEPER_REDIS_COMMAND_TIMEOUT_MS: '20000',
      TOLLKEEPER_WORKERS: '1',
      NODE_OPTIONS: '--max-old-space-size=56',
      TOLLKEEPER_UPSTREAM_CONNECTIONS_MAX: '20000',
    },
    upstream: (_, response) => {
      if (holds) held.push(response);
      else response.end('ok');
    },
  });
  const [sidecar] = rig.sidecars;
  const fresh = new FreshConnections(sidecar?.dataPort as number);
  const waiting: Promise<Call>[] = [];
  const refused: Call[] = [];
  const headers = { 'x-filler': 'f'.repeat(3500) };
  while (refused.length === 0 && waiting.length < 20_000) {
    for (let count = 0; count < 100; count += 1) {
      waiting.push(
        rig.history.call(fresh, '/files/a', { token: rig.token.secret, headers }).then((call) => {
          if (call.status === 503) refused.push(call);
          return call;
        }),
      );
    }
    await until(() => held.length + refused.length >= waiting.length);
  }
  expect(sidecar?.alive()).toBe(true);
  expect(refused[0]?.slug).toBe('overloaded');
  expect(await sample('tollkeeper_shedding')).toBe(1);
  expect((await rig.readiness()).text).toContain('heap');
  holds = false;
  for (const response of held) response.end('ok');
  expect(outcomes(await Promise.all(waiting))).toEqual(['200', '503 overloaded']);
  await rig.untilAnswered(200);
  await rig.check();
});

test('a heap that the waiting log would fill while Redis is away: entries are dropped and counted, and public routes go on', async () => {
  rig = await startFaultRig({
    env: {
      TOLLKEEPER_REDIS_COMMAND_TIMEOUT_MS: '20000',
      TOLLKEEPER_WORKERS: '1',
      NODE_OPTIONS: '--max-old-space-size=56',
    },
    redis: { appendonly: true },
  });
  expect((await rig.send()).status).toBe(200);
  await rig.installation.redis.kill();
  const long = `/open/${'p'.repeat(3000)}`;
  let sent = 0;
  while (!((await sample('tollkeeper_log_entries_total{result="dropped"}')) > 0)) {
    // The default bound would let more of them wait than there is memory for.
    expect(sent).toBeLessThan(20_000);
    sent += (await rig.burst(500, long, 16)).length;
  }
  expect(outcomes(await rig.burst(2000, long, 16))).toEqual(['200']);
  expect(rig.sidecars[0]?.alive()).toBe(true);
  await rig.installation.redis.restart({ keepData: true });
  await rig.untilAnswered(200);
  await rig.check();
});
