/** A worker that dies or hangs: what it costs, and who takes its place. These tests mostly wait, so they run together. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { freshLoad } from '../support/fresh-connections.js';
import { call } from '../support/http-client.js';
import type { Installation, IssuedToken } from '../support/installation.js';
import { startLoopClock } from '../support/loop-clock.js';
import type { LogLine } from '../support/sidecar.js';
import { until } from '../support/until.js';
import { installationWithCaller, isAlive, requestsCounted, said, sample, two, workerPids } from '../support/workers.js';

const path = '/api/v1/products';

let installation: Installation;
let token: IssuedToken;

beforeAll(async () => {
  ({ installation, token } = await installationWithCaller());
});

afterAll(() => installation.stop());

describe.concurrent('a worker killed under load', () => {
  test('costs no more than the connections it held and those in its queue, is replaced, and what it counted stays counted', async () => {
    const sidecar = await installation.sidecar({ env: two });
    const load = freshLoad(`${sidecar.dataUrl}${path}`, token.secret, 8);
    await load.more(200);
    const before = await requestsCounted(sidecar);
    const [victim] = workerPids(sidecar) as [number];
    process.kill(victim, 'SIGKILL');
    await load.more(200);
    await sidecar.logged(said('worker replaced'));
    await load.more(200);
    await load.stop();
    // The kernel closes what the dead worker had open one by one: a caller may lose a connection that was accepted, come
    // back while the listening socket is still there, and lose that one in its queue. A third has nowhere to be lost.
    const lost = new Map<number, number>();
    for (const { caller } of load.failures) lost.set(caller, (lost.get(caller) ?? 0) + 1);
    expect(Math.max(0, ...lost.values())).toBeLessThanOrEqual(2);
    // Cut, never refused: the other worker listens all the time.
    expect(load.failures.filter(({ code }) => code !== 'ECONNRESET' && code !== 'EPIPE')).toEqual([]);
    expect(Object.keys(load.statuses)).toEqual(['200']);
    expect(await requestsCounted(sidecar)).toBeGreaterThanOrEqual(before + 400);
    expect(await sample(sidecar, 'tollkeeper_worker_events_total{event="died"}')).toBe(1);
    expect(await sample(sidecar, 'tollkeeper_workers')).toBe(2);
  });

  test('again and again as soon as it comes ends the whole with exit code 1 and the reason', async () => {
    const sidecar = await installation.sidecar({ env: two });
    const killed = new Set<number>();
    const killNext = async (): Promise<void> => {
      const isNext = (line: LogLine): boolean =>
        line.msg === 'ready' && line.worker === 1 && !killed.has(Number(line.pid));
      const pid = Number((await sidecar.logged(isNext)).pid);
      killed.add(pid);
      process.kill(pid, 'SIGKILL');
    };
    await expect(
      (async () => {
        for (;;) await killNext();
      })(),
    ).rejects.toThrow('the sidecar ended (1)');
    expect(sidecar.output()).toContain('tollkeeper: Worker 1 ended 6 times in a row, each time at once');
    expect(workerPids(sidecar).filter(isAlive)).toEqual([]);
  });
});

describe.concurrent('a worker that takes long to start', () => {
  test('is waited for, and not taken for one that hangs', async () => {
    const sidecar = await installation.sidecar({ env: two });
    const children = (): number[] =>
      readFileSync(`/proc/${sidecar.pid}/task/${sidecar.pid}/children`, 'latin1').trim().split(' ').map(Number);
    const old = children();
    sidecar.signal('SIGUSR2');
    let slow = 0;
    await until(() => {
      slow = children().find((pid) => !old.includes(pid)) ?? 0;
      // Not before it is the program: its primary waits for that.
      return slow > 0 && readFileSync(`/proc/${slow}/cmdline`, 'latin1').includes('worker-main');
    });
    process.kill(slow, 'SIGSTOP');
    // Longer than one that has started may be silent: ten checks, a second apart.
    const clock = startLoopClock();
    await until(() => clock.now() > 12_500);
    clock.stop();
    expect(workerPids(sidecar)).not.toContain(slow);
    process.kill(slow, 'SIGCONT');
    await sidecar.logged(said('all workers were restarted'));
    expect(workerPids(sidecar)).toContain(slow);
    expect((await sample(sidecar, 'tollkeeper_worker_events_total{event="hung"}')) ?? 0).toBe(0);
  });
});

describe.concurrent('a worker that hangs', () => {
  test('does not hold up /metrics, makes /readyz say so, and is replaced', async () => {
    const sidecar = await installation.sidecar({ env: two });
    const before = await requestsCounted(sidecar);
    const [hanging] = workerPids(sidecar) as [number];
    process.kill(hanging, 'SIGSTOP');
    expect(await requestsCounted(sidecar)).toBe(before);
    // It answered beside the one that hangs, not when that was gone.
    expect(sidecar.logs().some(said('worker replaced'))).toBe(false);
    expect(await sample(sidecar, 'tollkeeper_worker_events_total{event="scrape-missed"}')).toBeGreaterThanOrEqual(1);
    await until(async () => (await call(`${sidecar.adminUrl}/readyz`)).text.includes('does not answer'));
    await sidecar.logged(said('worker replaced'));
    expect(await sample(sidecar, 'tollkeeper_worker_events_total{event="hung"}')).toBe(1);
    expect(isAlive(hanging)).toBe(false);
    await until(async () => (await call(`${sidecar.adminUrl}/readyz`)).status === 200);
  });
});
