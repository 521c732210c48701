/** A primary with two replicas and three Sentinels: what holds while the primary is cut off. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { NotConfirmedError, Store, StoreUnavailableError } from '../../src/redis/store.js';
import { TokenRepository } from '../../src/token/repository.js';
import { type SentinelGroup, startSentinelGroup } from '../support/redis-sentinel.js';
import { until } from '../support/until.js';
import { type FailoverRig, startFailoverRig } from './failover-rig.js';

let group: SentinelGroup;
let rig: FailoverRig;

beforeEach(async () => {
  group = await startSentinelGroup(['--min-replicas-to-write', '1', '--min-replicas-max-lag', '3']);
}, 60_000);
afterEach(async () => {
  await rig.stop();
  await group.stop();
}, 60_000);

const start = async (): Promise<FailoverRig> => {
  const env = { TOLLKEEPER_REDIS_SENTINELS: group.sentinels, TOLLKEEPER_REDIS_SENTINEL_NAME: group.name };
  rig = await startFailoverRig(env, group.servers);
  return rig;
};

describe('behind Sentinels', () => {
  test('a primary that is cut off from the others answers 503 and takes no change; the others go on, and what they revoked holds', async () => {
    await start();
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
    expect((await rig.send(token.secret, 1)).status).toBe(200);

    group.link.fail({ kind: 'stalled' });
    await expect(tokens.deactivate(token.record.id)).rejects.toThrow(NotConfirmedError);
    await until(async () => (await group.primary()) !== old, 30_000);
    await until(async () => (await rig.send(token.secret, 1)).slug === 'store-unavailable', 30_000);
    await expect(tokens.revoke(token.record.id)).rejects.toThrow(StoreUnavailableError);
    await rig.untilAnswered(token.secret, 200);
    const { tokens: majority } = await rig.open();
    await until(() =>
      majority.revoke(token.record.id).then(
        () => true,
        () => false,
      ),
    );
    expect((await rig.send(token.secret)).slug).toBe('token-revoked');
    // Never admitted on the other side either, during it or after.
    expect((await rig.send(token.secret, 1)).slug).toBe('store-unavailable');

    group.link.fail({ kind: 'none' });
    expect((await rig.send(token.secret)).slug).toBe('token-revoked');
    expect((await rig.send(token.secret, 1)).status).not.toBe(200);
    await alone.close();
    expect(minority.alive()).toBe(true);
  }, 120_000);
});
