/** The upstream down, silent, cut off or lying: what callers see, that nothing runs twice, and that nothing is lost. */
import { afterEach, expect, test } from 'vitest';
import { startFaultRig, type FaultRig } from './fault-rig.js';

let rig: FaultRig;

afterEach(() => rig.stop());

const env = {
  TOLLKEEPER_REDIS_COMMAND_TIMEOUT_MS: '20000',
  TOLLKEEPER_UPSTREAM_TIMEOUT_MS: '700',
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
