/** What somebody else did to the keys of the access log, under load: requests go on, and what is lost is counted. */
import { afterEach, expect, test } from 'vitest';
import { dayName, dayOf } from '../../src/accesslog/entry.js';
import { keys } from '../../src/redis/keys.js';
import { samplesOf } from '../support/exposition.js';
import { until } from '../support/until.js';
import { startFaultRig, type FaultRig } from './fault-rig.js';

let rig: FaultRig;

afterEach(() => rig.stop());

const env = { TOLLKEEPER_REDIS_COMMAND_TIMEOUT_MS: '20000' };
const stream = (): string => keys.log('acme', dayName(dayOf(Date.now())));

async function entries(result: string): Promise<number> {
  return samplesOf(await rig.metrics()).get(`tollkeeper_log_entries_total{result="${result}"}`) ?? 0;
}

/** Everybody is served, and all that was sent is accounted for. */
async function expectServed(): Promise<void> {
  expect(rig.history.outcomes()).toEqual({ ok: rig.history.calls.length });
  await until(async () => /^tollkeeper_log_queue_entries 0$/m.test(await rig.metrics()));
  const [written, dropped, failed] = [await entries('written'), await entries('dropped'), await entries('failed')];
  expect(written + dropped + failed).toBe(rig.history.calls.length);
}

test('a stream that became a string fails its entries and nothing else, and the log goes on when it is removed', async () => {
  rig = await startFaultRig({ env });
  const client = rig.installation.redis.client();
  await rig.burst(50, '/files/a', 8);
  const load = rig.keepSending(8);
  await client.set(stream(), 'no stream');
  await until(async () => (await entries('failed')) > 100);
  await rig.sidecars[0]?.logged(({ failed }) => Number(failed) > 0);
  await client.del(stream());
  const before = await entries('written');
  await until(async () => (await entries('written')) > before + 100);
  await load.stop();
  await expectServed();
  expect(await client.type(stream())).toBe('stream');
});

test('a stream that was deleted, emptied or trimmed is written on', async () => {
  rig = await startFaultRig({ env });
  const client = rig.installation.redis.client();
  const load = rig.keepSending(8);
  for (const harm of [
    () => client.del(stream()),
    () => client.xtrim(stream(), 'MAXLEN', 0),
    () => client.xtrim(stream(), 'MAXLEN', 5),
    () => client.call('XSETID', stream(), `${Date.now() + 60_000}-0`),
  ]) {
    await until(async () => (await client.xlen(stream())) > 20);
    await harm();
  }
  await until(async () => (await client.xlen(stream())) > 20);
  await load.stop();
  await expectServed();
  expect(await entries('failed')).toBe(0);
});

test('wrong types beside the stream (totals, usage, index) hold up neither requests nor entries', async () => {
  rig = await startFaultRig({ env });
  const client = rig.installation.redis.client();
  const { id } = rig.token;
  const day = dayName(dayOf(Date.now()));
  for (const key of [
    keys.logTotals('acme', day),
    keys.recentUsage('acme'),
    keys.recentUsage('acme', id),
    keys.usage('acme'),
    keys.usage('acme', id),
    keys.logIndex('acme', id, day),
  ]) {
    await client.del(key);
    await client.sadd(key, 'no such thing');
  }
  await rig.burst(300, '/files/a', 8);
  await expectServed();
  expect([await entries('written'), await client.xlen(stream())]).toEqual([300, 300]);
});
