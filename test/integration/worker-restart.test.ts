/** Workers replaced one after another while requests go on: nobody notices. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { freshRequest } from '../support/fresh-connections.js';
import type { Installation, IssuedToken } from '../support/installation.js';
import { clientPool, hit } from '../support/load.js';
import { canMigrateRequests, inMigratingNamespace } from '../support/network-namespace.js';
import { type RollingRestart, rollingRestartUnderLoad } from '../support/rolling-restart.js';
import { until } from '../support/until.js';
import { installationWithCaller, isAlive, requestsCounted, said, sample, two, workerPids } from '../support/workers.js';

const path = '/api/v1/products';

let installation: Installation;
let token: IssuedToken;

beforeAll(async () => {
  ({ installation, token } = await installationWithCaller());
});

afterAll(() => installation.stop());

describe('a restart of the workers (SIGUSR2)', () => {
  test('replaces each, and no keep-alive client sees a failure; all requests stay counted', async () => {
    const sidecar = await installation.sidecar({ env: two });
    const old = workerPids(sidecar);
    const pool = clientPool(sidecar.dataUrl, 8);
    let running = true;
    const statuses = new Set<number>();
    let sent = 0;
    const callers = Array.from({ length: 8 }, async () => {
      while (running) {
        statuses.add((await hit(pool, path, token.secret)).status);
        sent += 1;
      }
    });
    await until(() => sent > 200);
    sidecar.signal('SIGUSR2');
    await sidecar.logged(said('all workers were restarted'));
    const then = sent;
    await until(() => sent > then + 200);
    running = false;
    await Promise.all(callers);
    await pool.close();
    expect([...statuses]).toEqual([200]);
    expect(old.filter(isAlive)).toEqual([]);
    expect(new Set(workerPids(sidecar)).size).toBe(4);
    expect(await requestsCounted(sidecar)).toBe(sent);
    expect(await sample(sidecar, 'tollkeeper_request_duration_seconds_count')).toBe(sent);
    expect(await sample(sidecar, 'tollkeeper_request_duration_seconds_bucket{le="+Inf"}')).toBe(sent);
    expect(await sample(sidecar, 'tollkeeper_worker_events_total{event="restarted"}')).toBe(2);
  });

  const isSkipped = !canMigrateRequests();
  test.skipIf(isSkipped)(
    'costs not one of the requests that open a connection each, where the kernel hands connections over (needs root)',
    async () => {
      const scenario = new URL('../support/rolling-restart.ts', import.meta.url);
      const seen = await inMigratingNamespace<RollingRestart>(scenario, 'the.rollingRestartUnderLoad(2)');
      expect(seen.failures).toEqual([]);
      expect(Object.keys(seen.statuses)).toEqual(['200']);
    },
  );

  test('costs a caller at most a connection a worker where the kernel does not, and refuses none', async () => {
    const { statuses, failures } = await rollingRestartUnderLoad(1);
    // What waits in the queue of a socket that is closed is reset; a worker that gets no time has more of it waiting.
    const lost = new Map<number, number>();
    for (const { caller } of failures) lost.set(caller, (lost.get(caller) ?? 0) + 1);
    expect(Math.max(0, ...lost.values())).toBeLessThanOrEqual(2);
    expect(failures.filter(({ code }) => code !== 'ECONNRESET' && code !== 'EPIPE')).toEqual([]);
    expect(Object.keys(statuses)).toEqual(['200']);
  });

  test('is a word in the log, and nothing else, where there is one process', async () => {
    const sidecar = await installation.sidecar();
    sidecar.signal('SIGUSR2');
    await sidecar.logged((line) => String(line.msg).startsWith('there are no workers to restart'));
    expect(await freshRequest(`${sidecar.dataUrl}${path}`, token.secret)).toBe(200);
  });
});
