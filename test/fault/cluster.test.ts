/** A Redis Cluster of six real nodes: what holds while slots move, primaries die and scripts are lost. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { slotOf } from '../../src/redis/cluster-nodes.js';
import { Management } from '../../src/management/management.js';
import { keys } from '../../src/redis/keys.js';
import { NotConfirmedError, StoreUnavailableError } from '../../src/redis/store.js';
import { operator } from '../support/management.js';
import { type RedisCluster, startRedisCluster } from '../support/redis-cluster.js';
import { until } from '../support/until.js';
import { type FailoverRig, startFailoverRig } from './failover-rig.js';

let cluster: RedisCluster;
let rig: FailoverRig;

const start = async (sidecars = 1): Promise<FailoverRig> => {
  rig = await startFailoverRig({ TOLLKEEPER_REDIS_CLUSTER: cluster.nodes }, cluster.servers, sidecars);
  return rig;
};

const slotOfTenant = (slug: string): number => slotOf(keys.tenant(slug));

/** Slugs of tenants that lie on as many primaries. */
const spread = async (): Promise<Map<string, string>> => {
  const byPrimary = new Map<string, string>();
  for (let number = 0; byPrimary.size < 3; number += 1) {
    const primary = await cluster.primaryOf(slotOfTenant(`shop-${number}`));
    if (!byPrimary.has(primary)) byPrimary.set(primary, `shop-${number}`);
  }
  return byPrimary;
};

describe('on a Cluster', () => {
  beforeAll(async () => {
    cluster = await startRedisCluster();
  });
  afterEach(() => rig.stop());
  afterAll(() => cluster.stop());

  test('requests of one turn for tokens on every node are admitted, counted and logged once each, also when all scripts are lost', async () => {
    await start(2);
    const tokens = await Promise.all(Array.from({ length: 24 }, (_, at) => rig.token(`tenant-${at}`)));
    const loads = tokens.slice(0, 12).map(({ secret }) => rig.keepSending(secret, 2));
    const flushed = async (): Promise<void> => {
      await Promise.all(cluster.servers.map((server) => server.client().script('FLUSH')));
    };
    for (let round = 0; round < 5; round += 1) {
      await Promise.all(tokens.map(({ secret }, at) => rig.send(secret, at)));
      await flushed();
    }
    await Promise.all(loads.map((load) => load.stop()));
    expect(Object.keys(rig.history.outcomes())).toEqual(['ok']);
    await rig.check();
  });

  test('four sidecars never admit more than the limit, and in the end exactly that, while the slot of the token moves to and fro', async () => {
    await start(4);
    const limit = 400;
    const { secret } = await rig.token('hot', { rateLimit: { limit, window: 86_400 } });
    const slot = slotOfTenant('hot');
    await rig.untilAnswered(secret, 200);
    const load = rig.keepSending(secret, 4);
    const primaries = [...(await spread()).keys()];
    const home = await cluster.primaryOf(slot);
    for (const node of [...primaries.filter((name) => name !== home), home]) await cluster.moveSlot(slot, node);
    await load.stop();
    await rig.untilAnswered(secret, 429);
    const { ok, ...others } = rig.history.outcomes();
    expect(ok).toBe(limit);
    expect(Object.keys(others).filter((slug) => slug !== 'store-unavailable')).toEqual(['rate-limit-exceeded']);
    await rig.check();
  });

  test('a leased token is admitted no more often than its limit while its slot moves to and fro', async () => {
    await start(4);
    const limit = 3000;
    const { secret } = await rig.token('leased', { lease: true, rateLimit: { limit, window: 86_400 } });
    const slot = slotOfTenant('leased');
    await rig.untilAnswered(secret, 200);
    const load = rig.keepSending(secret, 4);
    const primaries = [...(await spread()).keys()];
    const home = await cluster.primaryOf(slot);
    for (const node of [...primaries.filter((name) => name !== home), home]) await cluster.moveSlot(slot, node);
    await until(() => (rig.history.outcomes()['rate-limit-exceeded'] ?? 0) > 0);
    await load.stop();
    await rig.untilAnswered(secret, 429);
    const { ok = 0, ...others } = rig.history.outcomes();
    // What was in a lease whose return found no way is lost until its window is over.
    expect(ok).toBeLessThanOrEqual(limit);
    expect(ok).toBeGreaterThan(limit / 2);
    expect(Object.keys(others).filter((slug) => slug !== 'store-unavailable')).toEqual(['rate-limit-exceeded']);
    await rig.check();
  });

  test('on the side of the minority requests and revocations are answered 503, and all is well when it is over', async () => {
    await start();
    const places = await spread();
    const [[lonely, slug]] = [...places] as [[string, string]];
    const token = await rig.token(slug);
    await rig.untilAnswered(token.secret, 200);
    const others = cluster.servers.filter((server) => server !== cluster.server(lonely));
    for (const server of others) server.freeze();
    await until(async () => (await rig.send(token.secret)).slug === 'store-unavailable');
    await expect(rig.repositories.tokens.revoke(token.record.id)).rejects.toThrow(StoreUnavailableError);
    for (const server of others) server.thaw();
    await cluster.healthy();
    await rig.revoke(token.record.id, (await rig.open()).tokens);
    await rig.untilAnswered(token.secret, 401);
    await rig.check();
  });

  test('a change that its replica does not have is answered as not confirmed', async () => {
    await start();
    const { record } = await rig.token('slow');
    const primary = await cluster.primaryOf(slotOfTenant('slow'));
    const { id } = (await cluster.view()).find(({ name }) => name === primary) as { id: string };
    const replicas = (await cluster.view()).filter(({ primaryId }) => primaryId === id);
    for (const { name } of replicas) cluster.server(name).freeze();
    await expect(rig.repositories.tokens.revoke(record.id)).rejects.toThrow(NotConfirmedError);
    for (const { name } of replicas) cluster.server(name).thaw();
    await rig.revoke(record.id);
  });

  test('a change whose audit record could be lost is answered as not confirmed, and holds meanwhile', async () => {
    await start();
    const { store } = await rig.open();
    const management = new Management(store, {
      tokenPrefix: 'tk_live',
      masterKeys: undefined,
      auditMaxEntries: 1000,
      lastUsed: (_, ids) => Promise.resolve(ids.map(() => null)),
      outcomeLost: (_, error) => {
        throw error;
      },
    });
    const auditPrimary = await cluster.primaryOf(slotOf(keys.audit()));
    const [, slug = ''] = [...(await spread())].find(([primary]) => primary !== auditPrimary) ?? [];
    const token = await rig.token(slug);
    const { id } = (await cluster.view()).find(({ name }) => name === auditPrimary) as { id: string };
    const replicas = (await cluster.view()).filter(({ primaryId }) => primaryId === id);
    for (const { name } of replicas) cluster.server(name).freeze();
    await expect(management.as(operator).revokeToken({ id: token.record.id })).rejects.toThrow(
      /the audit log is not confirmed/,
    );
    expect((await rig.send(token.secret)).slug).toBe('token-revoked');
    for (const { name } of replicas) cluster.server(name).thaw();
    const { data } = await management.as(operator).listAudit({}, { page: 1, perPage: 2 });
    expect(data.map(({ action, result }) => [action, result])).toEqual([
      ['token.revoke', 'unconfirmed'],
      ['token.revoke', 'attempted'],
    ]);
    await cluster.healthy();
    await rig.check();
  });

  test('a primary that is killed costs its own tokens 503 until its replica has taken over, and no other token anything; what was revoked stays so', async () => {
    await start(2);
    const places = await spread();
    const [[victim, slug], [, otherSlug]] = [...places] as [[string, string], [string, string]];
    const [token, revoked, other] = [await rig.token(slug), await rig.token(slug), await rig.token(otherSlug)];
    await Promise.all([rig.send(token.secret, 0), rig.send(token.secret, 1), rig.send(other.secret, 0)]);
    const [load, otherLoad] = [rig.keepSending(token.secret, 4), rig.keepSending(other.secret, 4)];
    // What was answered as done survives, also when the primary dies at once.
    await rig.revoke(revoked.record.id);
    await cluster.server(victim).kill();
    await until(async () => (await rig.send(token.secret)).status === 503);
    const slot = slotOfTenant(slug);
    await until(async () => (await cluster.primaryOf(slot)) !== victim);
    await rig.untilAnswered(token.secret, 200);
    expect((await rig.send(revoked.secret)).slug).toBe('token-revoked');
    await load.stop();
    const otherCalls = await otherLoad.stop();
    expect(new Set(otherCalls.map(({ status }) => status))).toEqual(new Set([200]));
    expect(Object.keys(rig.history.outcomes()).sort()).toEqual(['ok', 'store-unavailable', 'token-revoked']);
    await cluster.server(victim).restart({ keepData: true });
    await rig.check({ lostEntriesMax: 400 });
  });
});
