/**
 * Revocations and failovers, again and again: what was answered as done holds, whichever moment the primary is killed
 * at. Only `npm run test:failovers`; one failover each is part of cluster.test.ts and sentinel.test.ts. Prints its tally.
 */
import { afterEach, expect, test } from 'vitest';
import { slotOf } from '../../src/redis/cluster-nodes.js';
import { keys } from '../../src/redis/keys.js';
import { startRedisCluster } from '../support/redis-cluster.js';
import { startSentinelGroup } from '../support/redis-sentinel.js';
import { until } from '../support/until.js';
import { type FailoverRig, startFailoverRig } from './failover-rig.js';
import { loseAndKeepRevocations, type RevocationTally } from './revocations.js';

const isAsked = process.env.FAILOVERS !== undefined;
/** Of each test. */
const each = Math.ceil(Number(process.env.FAILOVERS ?? 0) / 2);
/**
 * Entries of the log that one failover may cost: replication is asynchronous, and requests come one by one here, so these are
 * the last few that the primary had acknowledged.
 */
const lostEachMax = 10;
const timeoutMs = 60_000 + each * 30_000;

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

async function judge(name: string, rig: FailoverRig, tally: RevocationTally): Promise<void> {
  const { confirmed, unconfirmed, lost, backMs } = tally;
  const sorted = backMs.toSorted((one, other) => one - other);
  const [median, most] = [sorted[Math.floor(sorted.length / 2)] ?? 0, sorted.at(-1) ?? 0].map(Math.round);
  console.log(
    `${name}: ${backMs.length} failovers, ${confirmed} revocations confirmed, ${lost.length} of them lost, ` +
      `${unconfirmed} answered as not confirmed; first 200 after the election: median ${median} ms, most ${most} ms`,
  );
  expect(lost).toEqual([]);
  expect(confirmed).toBeGreaterThan(0);
  await rig.check({ lostEntriesMax: lostEachMax * each });
}

test.runIf(isAsked)(
  'on a Cluster a revocation that was answered survives that its primary is killed at once',
  async () => {
    const cluster = await startRedisCluster();
    closers.push(() => cluster.stop());
    const rig = await startFailoverRig({ TOLLKEEPER_REDIS_CLUSTER: cluster.nodes }, cluster.servers);
    closers.push(() => rig.stop());
    const tally = await loseAndKeepRevocations(rig, each, async (tenant) => {
      const slot = slotOf(keys.tenant(tenant));
      const victim = await cluster.primaryOf(slot);
      await cluster.server(victim).kill();
      return {
        elected: () => until(async () => (await cluster.primaryOf(slot)) !== victim),
        restore: async () => {
          await cluster.server(victim).restart({ keepData: true });
          await cluster.healthy();
        },
      };
    });
    await judge('Cluster', rig, tally);
  },
  timeoutMs,
);

test.runIf(isAsked)(
  'behind Sentinels a revocation that was answered survives that the primary is killed at once',
  async () => {
    const group = await startSentinelGroup(['--min-replicas-to-write', '1', '--min-replicas-max-lag', '3']);
    closers.push(() => group.stop());
    const env = { TOLLKEEPER_REDIS_SENTINELS: group.sentinels, TOLLKEEPER_REDIS_SENTINEL_NAME: group.name };
    const rig = await startFailoverRig(env, group.servers);
    closers.push(() => rig.stop());
    const tally = await loseAndKeepRevocations(rig, each, async () => {
      const victim = await group.primary();
      await victim.kill();
      return {
        elected: () => group.elected(victim),
        restore: async () => {
          await group.rejoin(victim);
          await group.healthy();
        },
      };
    });
    await judge('Sentinel', rig, tally);
  },
  timeoutMs,
);
