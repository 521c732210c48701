/** Ends of processes under load, judged by the history of every request; restarts are in worker-restart.test.ts. */
import { afterEach, describe, expect, test } from 'vitest';
import { canMigrateRequests, inMigratingNamespace } from '../support/network-namespace.js';
import { until } from '../support/until.js';
import { defaultWorkers, isAlive, two, workerPids } from '../support/workers.js';
import { startFaultRig, type FaultRig } from './fault-rig.js';
import { sigkill, type SigtermFigure } from './lifecycle-figures.js';

const figures = new URL('lifecycle-figures.ts', import.meta.url);
const patient = { ...defaultWorkers, TOLLKEEPER_REDIS_COMMAND_TIMEOUT_MS: '20000' };

describe('under load', () => {
  let rig: FaultRig;
  afterEach(() => rig?.stop());

  test('SIGKILL of the primary: its workers answer what they have taken, write the log and end', async () => {
    rig = await startFaultRig({ env: two });
    const [sidecar] = rig.sidecars;
    if (sidecar === undefined) throw new Error('no sidecar');
    const load = rig.keepSending(16);
    await until(() => rig.history.calls.length > 500);
    await sidecar.kill();
    await until(() => !workerPids(sidecar).some(isAlive));
    const calls = await load.stop();
    expect(new Set(calls.map(({ status }) => status))).toEqual(new Set([200, 0]));
    await rig.check({ lostEntriesMax: 0 });
  });

  test('SIGTERM answers every request that was taken, logs it once, and the exit code is 0', async () => {
    rig = await startFaultRig({ env: patient, sidecars: 2 });
    const [leaving] = rig.sidecars;
    const load = rig.keepSending(16);
    await rig.burst(500, '/files/a', 16);
    const exitCode = leaving?.stop();
    expect(await exitCode).toBe(0);
    const calls = await load.stop();
    // A client whose connection was not there yet meets a closed port; no request that was taken is lost.
    const unanswered = calls.filter(({ status }) => status === 0);
    expect(unanswered.filter(({ id }) => rig.history.hits.has(id))).toEqual([]);
    await rig.check({ lostEntriesMax: 0 });
  });
});

describe('where the kernel hands waiting connections over', () => {
  const skips = !canMigrateRequests();
  if (skips) console.warn('SKIPPED: needs root, unshare(1) and Linux 5.14; run the suite as root to see this case');

  test.skipIf(skips)(
    'SIGTERM beside a second instance on the port fails no request, on kept connections and on one for each',
    async () => {
      const seen = await inMigratingNamespace<SigtermFigure>(
        figures,
        'the.sigterm({ requests: 2000, perSecond: 1000 }, 1)',
      );
      expect(seen.failed).toEqual({});
      expect(seen['exit codes']).toEqual([0]);
    },
  );
});

test('SIGKILL of a worker cuts its connections, and of the log loses no more than what was not yet due to be written', async () => {
  const flushIntervalMs = 500;
  const seen = await sigkill({ requests: 2000, perSecond: 500 }, flushIntervalMs);
  // Due within the interval, and written: the machine may be slow at that, but 2 s of load came before.
  expect(seen['oldest of them, ms']).toBeLessThan(flushIntervalMs + 1000);
});
