/** A primary with two replicas and three Sentinels: what holds while the primary is dead, frozen or cut off. */
import { describe, expect, type TestContext, test } from 'vitest';
import { NotConfirmedError, Store, StoreUnavailableError } from '../../src/redis/store.js';
import { TokenRepository } from '../../src/token/repository.js';
import type { Check } from '../../src/cli/doctor-check.js';
import { runCommand } from '../support/cli.js';
import { startFaultProxy } from '../support/fault-proxy.js';
import type { RedisServer } from '../support/redis.js';
import { freePort } from '../support/ports.js';
import { type SentinelGroup, startSentinelGroup } from '../support/redis-sentinel.js';
import { until } from '../support/until.js';
import { type FailoverRig, startFailoverRig } from './failover-rig.js';

/** A group of the test's own. */
const startGroup = async ({ onTestFinished }: TestContext, lagS = 3, downAfterMs = 1000): Promise<SentinelGroup> => {
  const args = ['--min-replicas-to-write', '1', '--min-replicas-max-lag', String(lagS)];
  const group = await startSentinelGroup(args, undefined, downAfterMs);
  onTestFinished(() => group.stop());
  return group;
};

const startRig = async (
  { onTestFinished }: TestContext,
  group: SentinelGroup,
  sidecars = 1,
  sentinels = group.sentinels,
): Promise<FailoverRig> => {
  const env = { TOLLKEEPER_REDIS_SENTINELS: sentinels, TOLLKEEPER_REDIS_SENTINEL_NAME: group.name };
  const rig = await startFailoverRig(env, group.servers, sidecars);
  onTestFinished(() => rig.stop());
  return rig;
};

const doctor = async (env: Readonly<Record<string, string>>): Promise<Check[]> => {
  const { stdout } = await runCommand(['doctor', '--json'], env);
  return (JSON.parse(stdout) as { checks: Check[] }).checks;
};

// They wait for elections most of the time: at once they take little more than one of them.
describe.concurrent('behind Sentinels', () => {
  test('a primary that is killed costs 503 until another one is elected, and every request is answered, counted and logged', async (context) => {
    const group = await startGroup(context);
    const rig = await startRig(context, group, 2);
    const { secret } = await rig.token('acme');
    const revoked = await rig.token('acme');
    const load = rig.keepSending(secret, 4);
    const victim = await group.primary();
    await rig.untilAnswered(secret, 200);
    // What was answered as done survives, also when the primary dies at once.
    await rig.revoke(revoked.record.id);
    await victim.kill();
    await rig.untilAnswered(secret, 503);
    await group.elected(victim);
    await until(async () => (await rig.send(secret, 0)).status === 200);
    await until(async () => (await rig.send(secret, 1)).status === 200);
    expect((await rig.send(revoked.secret)).slug).toBe('token-revoked');
    await load.stop();
    expect(Object.keys(rig.history.outcomes()).sort()).toEqual(['ok', 'store-unavailable', 'token-revoked']);
    await group.rejoin(victim);
    await rig.check({ lostEntriesMax: 400 });
  });

  test('a primary that is frozen is left for the one that is elected, and a sidecar without any ends on SIGTERM', async (context) => {
    const group = await startGroup(context);
    const rig = await startRig(context, group);
    const { secret } = await rig.token('acme');
    await rig.untilAnswered(secret, 200);
    const frozen = await group.primary();
    frozen.freeze();
    await group.elected(frozen);
    await rig.untilAnswered(secret, 200);
    await Promise.all(group.servers.map((server) => server.kill()));
    await rig.untilAnswered(secret, 503);
    expect(await rig.sidecars[0]?.stop()).toBe(0);
  });

  test('a Sentinel that names a dead server keeps nobody from the primary, also when it is asked first', async (context) => {
    // It accepts connections and ends them: a proxy before a dead server.
    const dead = await startFaultProxy({ port: await freePort() });
    context.onTestFinished(() => dead.stop());
    const group = await startGroup(context);
    const stranger = await group.startStranger(dead.port);
    const rig = await startRig(context, group, 1, `${stranger},${group.sentinels}`);
    const { secret } = await rig.token('acme');
    await rig.untilAnswered(secret, 200);
    const victim = await group.primary();
    await victim.kill();
    await group.elected(victim);
    await rig.untilAnswered(secret, 200);
  });

  test('a Sentinel that names a replica keeps nobody from the primary, and doctor says which it is; alone it is no primary to anybody', async (context) => {
    // An election, which this is not about, would tell the stranger who the primary is.
    const group = await startGroup(context, 60, 60_000);
    const replica = group.servers[1] as RedisServer;
    const stranger = await group.startStranger(replica.port);
    const rig = await startRig(context, group, 1, `${stranger},${group.sentinels}`);
    const { secret } = await rig.token('acme');
    await rig.untilAnswered(secret, 200);
    const sentinelChecks = async (): Promise<string[][]> =>
      (await doctor(rig.env))
        .filter(({ check }) => check === 'redis sentinels')
        .map(({ status, found }) => [status, found]);
    // What does not answer the doctor in time is no part of these.
    await expect.poll(sentinelChecks).toEqual([
      // Sentinels of one server hear of each other, whichever they take it for.
      ['ok', expect.stringMatching(/^enough to elect a primary \([34] are known\)$/)],
      ['warn', `${stranger} names 127.0.0.1:${replica.port}, 3 of 4 name 127.0.0.1:${group.link.port}`],
      // Here no machine is cut off.
      ['warn', 'min-replicas-max-lag 60 s, down-after-milliseconds 60000'],
    ]);

    const alone = await doctor({ ...rig.env, TOLLKEEPER_REDIS_SENTINELS: stranger });
    expect(alone.find(({ check }) => check === 'redis')).toMatchObject({ status: 'fail', found: 'cannot be used' });
    expect(alone.find(({ check }) => check === 'redis replicas')).toMatchObject({
      status: 'fail',
      found: `127.0.0.1:${replica.port}: this Redis is a replica`,
    });
  });

  test('doctor says which Sentinels are silent, that one names a dead primary, and that no majority names any', async (context) => {
    const group = await startGroup(context, 60, 60_000);
    const rig = await startRig(context, group);
    const deadPort = await freePort();
    const stranger = await group.startStranger(deadPort);
    const silent = `127.0.0.1:${await freePort()}`;
    const [first] = group.sentinels.split(',');
    const checks = await doctor({ ...rig.env, TOLLKEEPER_REDIS_SENTINELS: `${stranger},${silent},${first}` });
    const found = checks.filter(({ check }) => check === 'redis sentinels').map((check) => check.found);
    expect(found).toContain(`${silent} gives no answer`);
    expect(found.filter((text) => text.startsWith('1 of 3 name the same primary'))).toHaveLength(1);
    expect(found.filter((text) => text.includes(`names 127.0.0.1:`))).toHaveLength(1);
  });

  test('a sidecar that hears only the Sentinel on the side of the minority admits nobody once the others may have elected, and follows them when it hears them', async (context) => {
    const group = await startGroup(context);
    const [old] = group.servers as [RedisServer];
    // On that side: the old primary by its own address, and one Sentinel that knows it so.
    const near = await group.startStranger(old.port);
    const far = await Promise.all(
      group.sentinels.split(',').map(async (sentinel) => {
        const proxy = await startFaultProxy({ port: Number(sentinel.split(':')[1]) });
        context.onTestFinished(() => proxy.stop());
        return proxy;
      }),
    );
    const rig = await startRig(context, group);
    const token = await rig.token('acme');
    const heard = [near, ...far.map(({ port }) => `127.0.0.1:${port}`)].join(',');
    await rig.another({ TOLLKEEPER_REDIS_SENTINELS: heard });
    await until(async () => (await rig.send(token.secret, 1)).status === 200);

    for (const link of [...far, group.link]) link.fail({ kind: 'stalled' });
    await group.elected(old);
    await rig.revoke(token.record.id, (await rig.open()).tokens);
    // Confirmed on the other side: from here on nobody may be admitted here.
    const load = rig.keepSending(token.secret, 2, 1);
    for (const link of [...far, group.link]) link.fail({ kind: 'none' });
    await until(async () => (await rig.send(token.secret, 1)).slug === 'token-revoked');
    const calls = await load.stop();
    expect(calls.filter(({ status }) => status === 200)).toEqual([]);
  });

  test('a primary that is cut off from the others answers 503 and takes no change; the others go on, and what they revoked holds', async (context) => {
    const group = await startGroup(context);
    const rig = await startRig(context, group);
    const token = await rig.token('acme');
    const [old] = group.servers;
    if (old === undefined) throw new Error('there is no server');
    // On the side of the minority: a sidecar and a person who reach the old primary itself.
    const minority = await rig.another({
      TOLLKEEPER_REDIS_SENTINELS: '',
      TOLLKEEPER_REDIS_SENTINEL_NAME: '',
      TOLLKEEPER_REDIS_URL: old.url,
    });
    const alone = new Store(old.client(), { redisMinReplicas: 1, confirmTimeoutMs: 200 });
    const tokens = new TokenRepository(alone, { tokenPrefix: 'tk_live' });
    await until(async () => (await rig.send(token.secret, 1)).status === 200);

    group.link.fail({ kind: 'stalled' });
    await expect(tokens.deactivate(token.record.id)).rejects.toThrow(NotConfirmedError);
    await group.elected(old);
    await until(async () => (await rig.send(token.secret, 1)).slug === 'store-unavailable');
    await expect(tokens.revoke(token.record.id)).rejects.toThrow(StoreUnavailableError);
    await rig.untilAnswered(token.secret, 200);
    await rig.revoke(token.record.id, (await rig.open()).tokens);
    expect((await rig.send(token.secret)).slug).toBe('token-revoked');
    // Never admitted on the other side either, during it or after.
    expect((await rig.send(token.secret, 1)).slug).toBe('store-unavailable');

    group.link.fail({ kind: 'none' });
    expect((await rig.send(token.secret)).slug).toBe('token-revoked');
    expect((await rig.send(token.secret, 1)).status).not.toBe(200);
    await alone.close();
    expect(minority.alive()).toBe(true);
  });
});
