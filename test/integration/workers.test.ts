/** Several processes on one port: exact together, replaced when they die, restarted unnoticed, gone with the primary. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runCommand } from '../support/cli.js';
import { samplesOf } from '../support/exposition.js';
import { freshLoad, freshRequest } from '../support/fresh-connections.js';
import { call } from '../support/http-client.js';
import { type Installation, type IssuedToken, policyYaml, startInstallation } from '../support/installation.js';
import { burst, clientPool, hit } from '../support/load.js';
import { rollingRestartUnderLoad } from '../support/rolling-restart.js';
import type { LogLine, Sidecar } from '../support/sidecar.js';
import { until } from '../support/until.js';

const path = '/api/v1/products';
// What is tested here is not speed: a busy machine must not turn a slow answer of Redis into 503.
const two = { TOLLKEEPER_WORKERS: '2', TOLLKEEPER_REDIS_COMMAND_TIMEOUT_MS: '20000' };

let installation: Installation;
let token: IssuedToken;

beforeAll(async () => {
  installation = await startInstallation();
  await installation.tenant('acme', '--max-tokens', '100');
  token = await installation.token('acme', '--name', 'caller', '--limit', '1000000');
});

afterAll(() => installation.stop());

/** Process ids of the workers that have been ready so far, in the order of their coming. */
function workerPids(sidecar: Sidecar): number[] {
  const ready = sidecar.logs().filter((line) => line.msg === 'ready' && line.worker !== undefined);
  return ready.map((line) => Number(line.pid));
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    // A zombie that nobody has reaped yet is no process any more.
    return !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

async function requestsCounted(sidecar: Sidecar): Promise<number> {
  const { text } = await call(`${sidecar.adminUrl}/metrics`);
  const samples = [...samplesOf(text)].filter(([name]) => name.startsWith('tollkeeper_requests_total{'));
  return samples.reduce((sum, [, value]) => sum + value, 0);
}

async function sample(sidecar: Sidecar, name: string): Promise<number | undefined> {
  return samplesOf((await call(`${sidecar.adminUrl}/metrics`)).text).get(name);
}

const said = (msg: string) => (line: LogLine) => line.msg === msg;

describe('two workers', () => {
  let sidecar: Sidecar;
  beforeAll(async () => {
    sidecar = await installation.sidecar({ env: two });
  });

  test('say once that the data plane listens, when both do', () => {
    expect(sidecar.logs().filter((line) => line.msg === 'listening' && line.plane === 'data')).toHaveLength(1);
    expect(new Set(workerPids(sidecar)).size).toBe(2);
  });

  test('admit exactly the limit together, and /metrics counts every request once', async () => {
    const limited = await installation.token('acme', '--name', 'limited', '--limit', '100', '--window', '86400');
    const before = await requestsCounted(sidecar);
    const pool = clientPool(sidecar.dataUrl, 40);
    const answers = await burst([pool], 1000, path, limited.secret);
    await pool.close();
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(100);
    expect(answers.filter(({ status }) => status === 429)).toHaveLength(900);
    expect(await requestsCounted(sidecar)).toBe(before + 1000);
    expect(await sample(sidecar, 'tollkeeper_workers')).toBe(2);
  });

  test('are ready together', async () => {
    await until(async () => (await call(`${sidecar.adminUrl}/readyz`)).status === 200);
  });

  test('hold no configuration in their command line or environment', () => {
    for (const pid of workerPids(sidecar)) {
      const visible = readFileSync(`/proc/${pid}/cmdline`, 'latin1') + readFileSync(`/proc/${pid}/environ`, 'latin1');
      expect(visible).not.toContain('TOLLKEEPER_');
      expect(visible).not.toContain(installation.env.TOLLKEEPER_MASTER_KEY);
    }
  });

  test('do not start beside another process on their port, even one that would share it', async () => {
    const env = { ...installation.env, ...two, TOLLKEEPER_LISTEN: `127.0.0.1:${sidecar.dataPort}` };
    const { code, stderr } = await runCommand(['serve'], { ...env, TOLLKEEPER_ADMIN_LISTEN: '127.0.0.1:0' });
    expect(code).toBe(1);
    expect(stderr).toContain(`Cannot listen on 127.0.0.1:${sidecar.dataPort} (another process listens there)`);
    expect(stderr).toContain('TOLLKEEPER_LISTEN');
  });
});

describe('a worker killed under load', () => {
  test('costs no more than the connections it held and those in its queue, is replaced, and what it counted stays counted', async () => {
    const sidecar = await installation.sidecar({ env: two });
    const callers = 8;
    const load = freshLoad(`${sidecar.dataUrl}${path}`, token.secret, callers);
    await load.more(200);
    const before = await requestsCounted(sidecar);
    const [victim] = workerPids(sidecar) as [number];
    process.kill(victim, 'SIGKILL');
    await load.more(200);
    await sidecar.logged(said('worker replaced'));
    await load.more(200);
    await load.stop();
    // A caller whose connection is cut may come back before the listening socket is gone, and lose that one too.
    expect(load.failures.length).toBeLessThanOrEqual(2 * callers);
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

describe('a worker that hangs', () => {
  test('does not hold up /metrics, makes /readyz say so, and is replaced', async () => {
    const sidecar = await installation.sidecar({ env: two });
    const before = await requestsCounted(sidecar);
    const [hanging] = workerPids(sidecar) as [number];
    process.kill(hanging, 'SIGSTOP');
    const askedAtMs = performance.now();
    expect(await requestsCounted(sidecar)).toBe(before);
    expect(performance.now() - askedAtMs).toBeLessThan(3000);
    expect(await sample(sidecar, 'tollkeeper_worker_events_total{event="scrape-missed"}')).toBeGreaterThanOrEqual(1);
    await until(async () => (await call(`${sidecar.adminUrl}/readyz`)).text.includes('does not answer'));
    await sidecar.logged(said('worker replaced'));
    expect(await sample(sidecar, 'tollkeeper_worker_events_total{event="hung"}')).toBe(1);
    expect(isAlive(hanging)).toBe(false);
    await until(async () => (await call(`${sidecar.adminUrl}/readyz`)).status === 200);
  });
});

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
    expect(await sample(sidecar, 'tollkeeper_worker_events_total{event="restarted"}')).toBe(2);
  });

  const namespace = spawnSync('unshare', ['--net', 'ip', 'link', 'set', 'lo', 'up']).status === 0;
  test.skipIf(!namespace)(
    'costs not one of the requests that open a connection each, where the kernel hands connections over (needs root)',
    () => {
      const scenario = fileURLToPath(new URL('../support/rolling-restart.ts', import.meta.url));
      const script =
        `import { rollingRestartUnderLoad } from ${JSON.stringify(scenario)};` +
        'process.stdout.write(JSON.stringify(await rollingRestartUnderLoad(2)));';
      const inNamespace =
        'ip link set lo up && echo 1 > /proc/sys/net/ipv4/tcp_migrate_req && exec "$0" --import tsx --input-type=module -e "$1"';
      const printed = execFileSync('unshare', ['--net', 'sh', '-c', inNamespace, process.execPath, script]);
      const { statuses, failures } = JSON.parse(printed.toString()) as Awaited<
        ReturnType<typeof rollingRestartUnderLoad>
      >;
      expect(failures).toEqual([]);
      expect(Object.keys(statuses)).toEqual(['200']);
    },
  );

  test('costs at most a connection a worker where the kernel does not', async () => {
    const { statuses, failures } = await rollingRestartUnderLoad(1);
    expect(failures.length).toBeLessThanOrEqual(2);
    expect(Object.keys(statuses)).toEqual(['200']);
  });

  test('is a word in the log, and nothing else, where there is one process', async () => {
    const sidecar = await installation.sidecar();
    sidecar.signal('SIGUSR2');
    await sidecar.logged((line) => String(line.msg).startsWith('there are no workers to restart'));
    expect(await freshRequest(`${sidecar.dataUrl}${path}`, token.secret)).toBe(200);
  });
});

describe('a reload of the policy (SIGHUP)', () => {
  test('holds in every worker, also in one that comes later; a bad policy changes nothing anywhere', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'tk-workers-'));
    const policyPath = join(dir, 'policy.yaml');
    writeFileSync(policyPath, policyYaml);
    const sidecar = await installation.sidecar({ env: { ...two, TOLLKEEPER_POLICY: policyPath } });
    const url = `${sidecar.dataUrl}${path}`;
    // Enough connections that each worker gets some.
    const statuses = async (): Promise<number[]> => [
      ...new Set(await Promise.all(Array.from({ length: 40 }, () => freshRequest(url, token.secret)))),
    ];
    expect(await statuses()).toEqual([200]);

    writeFileSync(policyPath, policyYaml.replaceAll('scope: products:read', 'scope: admin:all'));
    sidecar.signal('SIGHUP');
    await sidecar.logged(said('policy reloaded'));
    expect(await statuses()).toEqual([403]);

    writeFileSync(policyPath, 'policy: { routes: 7 }');
    sidecar.signal('SIGHUP');
    await sidecar.logged(said('the new policy was refused: the old one stays'));
    process.kill(workerPids(sidecar)[0] as number, 'SIGKILL');
    await sidecar.logged(said('worker replaced'));
    expect(await statuses()).toEqual([403]);
    const reloads = 'tollkeeper_policy_reloads_total';
    expect(await sample(sidecar, `${reloads}{result="ok"}`)).toBe(1);
    expect(await sample(sidecar, `${reloads}{result="failed"}`)).toBe(1);
    rmSync(dir, { recursive: true });
  });
});

describe('the end', () => {
  test('by SIGTERM answers what is under way, writes the log, and leaves no process behind', async () => {
    const held: ServerResponse[] = [];
    const slow = await startInstallation({ upstream: (_, response) => void held.push(response) });
    await slow.tenant('acme');
    const caller = await slow.token('acme', '--limit', '1000');
    const sidecar = await slow.sidecar({ env: two });
    const pids = workerPids(sidecar);
    const pool = clientPool(sidecar.dataUrl, 20);
    const answers = burst([pool], 20, path, caller.secret);
    await slow.upstream.request(20);
    const exitCode = sidecar.stop();
    await until(async () => (await call(`${sidecar.adminUrl}/readyz`)).text.includes('shutting down'));
    for (const response of held) response.end('late');
    expect((await answers).map(({ status }) => status)).toEqual(Array.from({ length: 20 }, () => 200));
    expect(await exitCode).toBe(0);
    expect(pids.filter(isAlive)).toEqual([]);
    const client = slow.redis.client();
    expect(await client.xlen(`log:{acme}:${new Date().toISOString().slice(0, 10)}`)).toBe(20);
    client.disconnect();
    await pool.close();
    await slow.stop();
  });

  test('by SIGTERM comes at once in the middle of a restart too, whoever holds idle connections', async () => {
    const sidecar = await installation.sidecar({ env: two });
    const pool = clientPool(sidecar.dataUrl, 20);
    await burst([pool], 20, path, token.secret);
    sidecar.signal('SIGUSR2');
    // The third worker: one of the first two is told to drain then.
    await sidecar.logged(() => workerPids(sidecar).length === 3);
    expect(await sidecar.stop()).toBe(0);
    expect(workerPids(sidecar).filter(isAlive)).toEqual([]);
    await pool.destroy();
  });

  test('of the primary by SIGKILL ends its workers too, and frees the port', async () => {
    const sidecar = await installation.sidecar({ env: two });
    const pids = workerPids(sidecar);
    expect(pids).toHaveLength(2);
    await sidecar.kill();
    await until(() => !pids.some(isAlive));
    await expect(freshRequest(`${sidecar.dataUrl}${path}`, token.secret)).rejects.toThrow('ECONNREFUSED');
  });
});
