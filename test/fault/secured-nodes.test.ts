/** Sentinels and a Cluster that speak TLS only and ask for passwords: served, failed over and examined like any other. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, type TestContext, test } from 'vitest';
import type { Check } from '../../src/cli/doctor-check.js';
import { slotOf } from '../../src/redis/cluster-nodes.js';
import { keys } from '../../src/redis/keys.js';
import { runCommand } from '../support/cli.js';
import { makeCertificates } from '../support/redis.js';
import { startRedisCluster } from '../support/redis-cluster.js';
import { startSentinelGroup } from '../support/redis-sentinel.js';
import { until } from '../support/until.js';
import { type FailoverRig, startFailoverRig } from './failover-rig.js';

const certificates = mkdtempSync(join(tmpdir(), 'tk-certificates-'));
const password = 'CANARY-of-the-servers';
const sentinelPassword = 'CANARY-of-the-sentinels';
const access = { TOLLKEEPER_REDIS_PASSWORD: password, TOLLKEEPER_REDIS_TLS: 'true' };

let ca: { TOLLKEEPER_REDIS_TLS_CA: string };
beforeAll(() => {
  ca = { TOLLKEEPER_REDIS_TLS_CA: makeCertificates(certificates) };
});
afterAll(() => rmSync(certificates, { recursive: true, force: true }));

const doctor = async (env: Readonly<Record<string, string>>): Promise<Check[]> => {
  const { stdout, stderr } = await runCommand(['doctor', '--json'], env);
  expect(stdout + stderr).not.toContain('CANARY');
  return (JSON.parse(stdout) as { checks: Check[] }).checks;
};
const ofRedis = (checks: readonly Check[]): string[] =>
  checks
    .filter(({ check, status }) => check.startsWith('redis') && status === 'fail')
    .map(({ check, found }) => `${check}: ${found}`);

/** A token is served, another one's revocation is confirmed and outlives the primary, and nothing printed a password. */
async function outlivesItsPrimary(rig: FailoverRig, fail: (tenant: string) => Promise<void>): Promise<void> {
  const [token, revoked] = [await rig.token('acme'), await rig.token('acme')];
  await rig.untilAnswered(token.secret, 200);
  await rig.revoke(revoked.record.id);
  await fail('acme');
  await rig.untilAnswered(token.secret, 200);
  expect((await rig.send(revoked.secret)).slug).toBe('token-revoked');
  for (const sidecar of rig.sidecars) expect(sidecar.output()).not.toContain('CANARY');
}

const startRig = async (
  { onTestFinished }: TestContext,
  ...[env, servers]: Parameters<typeof startFailoverRig>
): Promise<FailoverRig> => {
  const rig = await startFailoverRig(env, servers);
  onTestFinished(() => rig.stop());
  return rig;
};

describe.concurrent('with TLS and passwords', () => {
  test('behind Sentinels a primary is found, lost and replaced', async (context) => {
    const args = ['--min-replicas-to-write', '1', '--min-replicas-max-lag', '3', '--appendonly', 'yes'];
    const group = await startSentinelGroup(args, { certificates, password, sentinelPassword });
    context.onTestFinished(() => group.stop());
    const env = {
      ...access,
      ...ca,
      TOLLKEEPER_REDIS_SENTINELS: group.sentinels,
      TOLLKEEPER_REDIS_SENTINEL_NAME: group.name,
      TOLLKEEPER_REDIS_SENTINEL_PASSWORD: sentinelPassword,
    };
    const rig = await startRig(context, env, group.servers);
    expect(ofRedis(await doctor(rig.env))).toEqual([]);
    const wrong = await doctor({ ...rig.env, TOLLKEEPER_REDIS_SENTINEL_PASSWORD: 'CANARY-wrong' });
    expect(wrong.filter(({ check, found }) => check === 'redis sentinels' && /WRONGPASS/.test(found))).toHaveLength(3);
    await outlivesItsPrimary(rig, async () => {
      const victim = await group.primary();
      await victim.kill();
      await group.elected(victim);
    });
  });

  test('on a Cluster every node is reached, and a primary is lost and replaced', async (context) => {
    const cluster = await startRedisCluster(['--appendonly', 'yes'], { certificates, password });
    context.onTestFinished(() => cluster.stop());
    const rig = await startRig(context, { ...access, ...ca, TOLLKEEPER_REDIS_CLUSTER: cluster.nodes }, cluster.servers);
    const checks = await doctor(rig.env);
    expect(ofRedis(checks)).toEqual([]);
    expect(checks.find(({ check }) => check === 'redis nodes')?.found).toBe('answers (6 of 6 nodes)');
    const wrong = ofRedis(await doctor({ ...rig.env, TOLLKEEPER_REDIS_PASSWORD: 'CANARY-wrong' }));
    expect(wrong).toContain('redis: cannot be used');
    await outlivesItsPrimary(rig, async (tenant) => {
      const slot = slotOf(keys.tenant(tenant));
      const victim = await cluster.primaryOf(slot);
      await cluster.server(victim).kill();
      await until(async () => (await cluster.primaryOf(slot)) !== victim);
    });
  });
});
