/** Connections to Redis on which nothing passes any more, in silence and for ever, while new ones work. */
import { afterEach, expect, test } from 'vitest';
import { startFaultRig, type FaultRig } from './fault-rig.js';
import { until } from '../support/until.js';

let rig: FaultRig;

afterEach(() => rig.stop());

test('are given up and made anew: 200 after seconds and not after a quarter of an hour; nothing is lost', async () => {
  rig = await startFaultRig();
  await rig.burst(50, '/files/a', 8);
  rig.redisLink.forget();
  expect((await rig.send()).slug).toBe('store-unavailable');
  await rig.untilAnswered(200);
  await until(async () => (await rig.readiness()).status === 200);
  await rig.burst(50, '/files/a', 8);
  // Its connection too: what was logged meanwhile is written.
  await until(async () => /^tollkeeper_log_queue_entries 0$/m.test(await rig.metrics()));
  await rig.check();
}, 60_000);
