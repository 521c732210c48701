/** The command line and a sidecar on a Redis Cluster: everything that people do there works as on one server. */
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { signRequest } from '../../src/sign/sign.js';
import { runCommand, runJson } from '../support/cli.js';
import { call, slugOf } from '../support/http-client.js';
import { policyYaml } from '../support/installation.js';
import { type RedisCluster, startRedisCluster } from '../support/redis-cluster.js';
import { type Sidecar, startSidecar } from '../support/sidecar.js';
import { until } from '../support/until.js';
import { startUpstream, type Upstream } from '../support/upstream.js';

const path = '/api/v1/products';
const folder = mkdtempSync(join(tmpdir(), 'tk-cluster-'));

let cluster: RedisCluster;
let upstream: Upstream;
let sidecar: Sidecar;
let env: Record<string, string>;

interface Issued {
  readonly token: { readonly id: string };
  readonly secret: string;
}

const tollkeeper = <T>(...args: string[]): Promise<T> => runJson<T>(args, env);
const get = (secret: string): Promise<[number, string]> =>
  call(`${sidecar.dataUrl}${path}`, { token: secret }).then((answer) => [answer.status, slugOf(answer)]);

beforeAll(async () => {
  cluster = await startRedisCluster(['--appendonly', 'yes']);
  upstream = await startUpstream();
  const policyPath = join(folder, 'policy.yaml');
  writeFileSync(policyPath, policyYaml);
  env = {
    TOLLKEEPER_REDIS_CLUSTER: cluster.nodes,
    TOLLKEEPER_UPSTREAM: upstream.url,
    TOLLKEEPER_POLICY: policyPath,
    TOLLKEEPER_MASTER_KEY: Buffer.alloc(32, 7).toString('base64'),
    TOLLKEEPER_FOREIGN_TOKENS: 'true',
  };
  await tollkeeper('tenant', 'create', 'acme', '--name', 'Acme', '--max-tokens', '50');
  sidecar = await startSidecar({ env });
});
afterAll(async () => {
  await sidecar.stop();
  await upstream.stop();
  await cluster.stop();
  rmSync(folder, { recursive: true, force: true });
});

test('a token is created, used, limited, rotated, switched, revoked and deleted, and each holds from the next request on', async () => {
  const flags = ['--tenant', 'acme', '--name', 'a', '--scopes', 'products:read', '--limit', '3', '--window', '3600'];
  const { token, secret } = await tollkeeper<Issued>('token', 'create', ...flags);
  for (let count = 0; count < 3; count += 1) expect(await get(secret)).toEqual([200, '']);
  expect(await get(secret)).toEqual([429, 'rate-limit-exceeded']);
  // The refusal is remembered; the change is heard from the node on which it was made.
  await tollkeeper('token', 'update', token.id, '--limit', '100');
  expect(await get(secret)).toEqual([200, '']);
  await tollkeeper('token', 'deactivate', token.id);
  expect(await get(secret)).toEqual([401, 'token-inactive']);
  await tollkeeper('token', 'activate', token.id);
  const rotated = await tollkeeper<Issued>('token', 'rotate', token.id);
  expect(await get(secret)).toEqual([401, 'invalid-token']);
  expect(await get(rotated.secret)).toEqual([200, '']);
  await tollkeeper('token', 'revoke', token.id);
  expect(await get(rotated.secret)).toEqual([401, 'token-revoked']);
  await tollkeeper('token', 'delete', token.id);
  expect(await get(rotated.secret)).toEqual([401, 'invalid-token']);
});

test('a signature is admitted once, an imported token is found, and both are explained', async () => {
  const scopes = ['--tenant', 'acme', '--scopes', 'products:read'];
  const { token, secret } = await tollkeeper<Issued>('token', 'create', ...scopes, '--name', 'h', '--mode', 'hmac');
  const { headers } = signRequest({ secret, method: 'GET', url: path });
  const send = async (): Promise<string> => slugOf(await call(`${sidecar.dataUrl}${path}`, { headers }));
  expect([await send(), await send()]).toEqual(['', 'replayed-request']);
  const foreign = 'a-token-of-somebody-else-0123456789';
  const sha256 = createHash('sha256').update(foreign).digest('hex');
  await tollkeeper('token', 'import', ...scopes, '--name', 'f', '--sha256', sha256);
  expect(await get(foreign)).toEqual([200, '']);
  expect(await get(`${foreign}x`)).toEqual([401, 'invalid-token']);
  const explained = await runCommand(['explain', '--token', token.id, '--request', `GET ${path}`], env);
  expect(explained).toMatchObject({ stderr: '', code: 0 });
  const { moved, current } = await tollkeeper<{ moved: number; current: number }>('token', 'rekey');
  expect([moved, current]).toEqual([0, 1]);
});

test('tenants on every node are listed, logged, exported and deleted', async () => {
  const slugs = Array.from({ length: 6 }, (_, at) => `store-${at}`);
  await Promise.all(slugs.map((slug) => tollkeeper('tenant', 'create', slug, '--name', slug)));
  const secrets = await Promise.all(
    slugs.map(async (slug) => {
      const flags = ['--tenant', slug, '--name', 'n', '--scopes', 'products:read'];
      return (await tollkeeper<Issued>('token', 'create', ...flags)).secret;
    }),
  );
  expect(await Promise.all(secrets.map(get))).toEqual(slugs.map(() => [200, '']));
  const listed = await tollkeeper<{ data: { slug: string }[] }>('tenant', 'list');
  expect(listed.data.map(({ slug }) => slug)).toEqual(expect.arrayContaining(slugs));
  await until(async () => {
    const { stdout } = await runCommand(['logs', '--json', '--limit', '100'], env);
    return slugs.every((slug) => stdout.includes(`"tenant":"${slug}"`));
  });
  const file = join(folder, 'backup');
  await tollkeeper('export', file);
  for (const slug of slugs.slice(0, 2)) await tollkeeper('tenant', 'delete', slug, '--force');
  expect((await get(secrets[0] as string))[1]).toBe('invalid-token');
  await tollkeeper('import', '--merge', file);
  expect(await get(secrets[0] as string)).toEqual([200, '']);
});

test('doctor looks at every node', async () => {
  const { checks } = JSON.parse((await runCommand(['doctor', '--json'], env)).stdout) as {
    checks: { check: string; status: string; found: string }[];
  };
  const found = (name: string): string[] =>
    checks.filter(({ check }) => check === name).map(({ status, found: text }) => `${status}: ${text}`);
  expect(found('redis cluster')).toEqual(['ok: 3 primaries, 3 replicas, every slot is served']);
  expect(found('redis nodes')).toEqual(['ok: answers (6 of 6 nodes)']);
  expect(found('redis persistence')).toEqual(['ok: appendonly yes, appendfsync everysec (6 of 6 nodes)']);
  expect(found('redis replicas')).toEqual(['ok: 1 connected, min-replicas-to-write 0 (3 of 3 nodes)']);
  expect(found('redis coverage')).toEqual(['ok: each primary serves for itself (6 of 6 nodes)']);
  const replica = (await cluster.view()).find(({ primaryId }) => primaryId !== '')?.name ?? '';
  await cluster.server(replica).client().config('SET', 'maxmemory', '1gb');
  await cluster.server(replica).client().config('SET', 'maxmemory-policy', 'allkeys-lru');
  const { stdout } = await runCommand(['doctor', '--json'], env);
  expect(stdout).toContain(`${replica}: allkeys-lru`);
});
