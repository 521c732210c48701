/** Imported tokens, which are looked up before they are admitted, while Redis does not answer. */
import { afterEach, expect, test } from 'vitest';
import { startFaultRig, type FaultRig } from './fault-rig.js';

let rig: FaultRig;

afterEach(() => rig.stop());

test('a token nobody knows waits no longer than others do for a frozen Redis, and soon not at all: 503, never 401', async () => {
  rig = await startFaultRig({ env: { TOLLKEEPER_FOREIGN_TOKENS: 'true' } });
  const present = (number: number) => rig.send('/files/a', { token: `sk_old_${number}_abcdefghijklmnop` });
  await rig.burst(20, '/files/a', 4);
  expect((await present(0)).status).toBe(401);
  rig.installation.redis.freeze();
  const calls = [];
  for (let number = 1; number <= 12; number += 1) calls.push(await present(number));
  for (const { status, slug, retryAfter, waitedMs } of calls) {
    expect([status, slug, retryAfter]).toEqual([503, 'store-unavailable', '1']);
    // The deadline of 100 ms and 50 ms, and some turns of the loop.
    expect(waitedMs).toBeLessThan(250);
  }
  // The breaker has opened: most were told at once.
  expect(calls.filter(({ waitedMs }) => waitedMs < 90).length).toBeGreaterThan(calls.length / 2);
  rig.installation.redis.thaw();
  await rig.untilAnswered(200);
  let last = (await present(0)).status;
  while (last === 503) last = (await present(0)).status;
  expect(last).toBe(401);
  await rig.check();
}, 60_000);
