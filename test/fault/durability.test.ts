/** What a change that was answered outlives where one Redis is all there is. */
import { expect, test } from 'vitest';
import { parseTenantDraft } from '../../src/tenant/draft.js';
import { startRedis } from '../support/redis.js';
import { openRepositories, tokenDraft } from '../support/repositories.js';

const rounds = 10;

test('a revocation that was answered outlives that Redis is killed at once, with appendfsync everysec', async () => {
  const redis = await startRedis({ tcp: true, appendonly: true, args: ['--appendfsync', 'everysec'] });
  try {
    const first = await openRepositories(redis.url);
    await first.tenants.create(parseTenantDraft({ slug: 'acme', name: 'Acme' }));
    await first.store.close();
    for (let round = 0; round < rounds; round += 1) {
      const before = await openRepositories(redis.url);
      const { record } = await before.tokens.create('acme', tokenDraft({ scopes: ['files'] }));
      await before.tokens.revoke(record.id);
      await redis.restart({ keepData: true });
      await before.store.close();
      const after = await openRepositories(redis.url);
      expect((await after.tokens.get(record.id)).state).toBe('revoked');
      await after.store.close();
    }
  } finally {
    await redis.stop();
  }
});
