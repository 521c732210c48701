/** Several processes on one port: exact together, of one policy, gone with the primary. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runCommand } from '../support/cli.js';
import { freshRequest } from '../support/fresh-connections.js';
import { call } from '../support/http-client.js';
import { type Installation, type IssuedToken, policyYaml, startInstallation } from '../support/installation.js';
import { burst, clientPool } from '../support/load.js';
import type { Sidecar } from '../support/sidecar.js';
import { until } from '../support/until.js';
import { installationWithCaller, isAlive, requestsCounted, said, sample, two, workerPids } from '../support/workers.js';

const path = '/api/v1/products';

let installation: Installation;
let token: IssuedToken;

beforeAll(async () => {
  ({ installation, token } = await installationWithCaller());
});

afterAll(() => installation.stop());

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
