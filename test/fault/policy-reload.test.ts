/** The policy replaced a thousand times under load, every other time by a broken one: no request is decided wrongly. */
import { writeFileSync } from 'node:fs';
import { afterAll, expect, test } from 'vitest';
import { until } from '../support/until.js';
import { samplesOf } from '../support/exposition.js';
import { defaultWorkers } from '../support/workers.js';
import { faultPolicy, startFaultRig, type FaultRig } from './fault-rig.js';

/** 1,000 in the long form. */
const reloads = Number(process.env.FAULT_RELOADS ?? 100);

const broken = ['policy: { default: maybe }', 'policy: [', '', 'policy: { routes: [{ path: nowhere }] }'];

let rig: FaultRig;

afterAll(() => rig.stop());

test('a good policy is taken over and a bad one refused, while every request is decided by the old or the new', async () => {
  rig = await startFaultRig({ env: { ...defaultWorkers, TOLLKEEPER_REDIS_COMMAND_TIMEOUT_MS: '20000' } });
  const [sidecar] = rig.sidecars;
  const policyPath = rig.installation.env.TOLLKEEPER_POLICY as string;
  const withExtra = `${faultPolicy}    - { methods: [GET], path: "/extra/{name}", scope: files }\n`;
  const steady = rig.keepSending(4);
  const forbidden = rig.keepSending(2, '/secrets/a');
  const judged = async (): Promise<number> => {
    const samples = samplesOf(await rig.metrics());
    const count = (result: string): number => samples.get(`tollkeeper_policy_reloads_total{result="${result}"}`) ?? 0;
    return count('ok') + count('failed');
  };
  for (let reload = 0; reload < reloads; reload += 1) {
    const isBroken = reload % 2 === 1;
    const hasExtra = Math.floor(reload / 2) % 2 === 0;
    if (isBroken) writeFileSync(policyPath, broken[Math.floor(reload / 2) % broken.length] as string);
    else writeFileSync(policyPath, hasExtra ? withExtra : faultPolicy);
    sidecar?.signal('SIGHUP');
    await until(async () => (await judged()) > reload);
    // A broken one changes nothing: the one before it still decides.
    expect((await rig.send('/extra/a')).status).toBe(hasExtra ? 200 : 403);
  }
  const answered = await steady.stop();
  const refused = await forbidden.stop();
  expect(new Set(answered.map(({ status }) => status))).toEqual(new Set([200]));
  expect(new Set(refused.map(({ slug }) => slug))).toEqual(new Set(['insufficient-scope']));
  const line = await sidecar?.logged(({ level, reason }) => level === 'error' && typeof reason === 'string');
  expect(String(line?.reason)).toMatch(/default|maybe/);
  expect(await rig.metrics()).toMatch(/tollkeeper_policy_reloads_total\{result="failed"\} [1-9]/);
  await rig.check();
});
