import { describe, expect, it } from 'vitest';
import { keys } from '../../../src/redis/keys.js';
import { prepareTenant, prepareToken, RecordCache } from '../../../src/token/cache.js';
import { aTenantRecord, aTokenRecord } from './records.js';

const prepared = (fields: Parameters<typeof aTokenRecord>[0] = {}) =>
  prepareToken(JSON.stringify(aTokenRecord(fields)));

describe('prepareToken', () => {
  it('has everything ready that a request is held against', () => {
    const token = prepared({
      expiresAt: 5,
      previousSha256: 'cd'.repeat(32),
      previousUntil: 9,
      quota: { limit: 1, period: 'day' },
    });
    expect(token.tokenKey).toBe(keys.token(token.id));
    expect(token.tenantKey).toBe(keys.tenant('acme'));
    expect(token.secretDigest.toString('hex')).toBe('ab'.repeat(32));
    expect(token.previousDigest?.toString('hex')).toBe('cd'.repeat(32));
    expect([...token.scopes]).toEqual(['products:read', 'orders:write']);
    expect(token.scopesHeader).toBe('products:read orders:write');
    expect(token.notAfterMs).toBe(5);
    expect(token.limitHeaders).toHaveLength(2);
  });

  it('has the scopes of its own record, whatever others had before it', () => {
    const lists = [['a', 'b'], ['a b'], [], [''], ['a'], ['b', 'a'], ['a', 'b']];
    expect(lists.map((scopes) => [...prepared({ scopes }).scopes])).toEqual(lists);
    expect(() => prepared({ scopes: ['a\nb'] })).toThrow(/scopes/);
    expect([...prepared({ scopes: ['a', 'b'] }).scopes]).toEqual(['a', 'b']);
  });

  it('has the limits of its own record, whatever others had before it', () => {
    const limits = [1, 2, 1].map((limit) => ({ limit, window: 60, algorithm: 'sliding-window' as const }));
    expect(limits.map((rateLimit) => prepared({ rateLimit }).limitHeaders[0]?.capacity)).toEqual(['1', '2', '1']);
  });

  it('has a digest of full length in mode hmac, so that comparing never throws, which no secret matches', () => {
    const token = prepared({ mode: 'hmac', secretSha256: '', sealedSecret: 'v1.x' });
    expect(token.secretDigest.equals(Buffer.alloc(32))).toBe(true);
    expect(token.previousDigest).toBeNull();
  });

  it('takes a damaged hash for no hash', () => {
    expect(prepared({ secretSha256: 'abc' }).secretDigest.equals(Buffer.alloc(32))).toBe(true);
    expect(prepared({ previousSha256: 'zz', previousUntil: 9 }).previousDigest).toBeNull();
  });
});

describe('RecordCache', () => {
  it('forgets the least recently used beyond its bound', () => {
    const cache = new RecordCache(2);
    const [a, b, c] = ['aaaaaaaaaaaa', 'bbbbbbbbbbbb', 'cccccccccccc'].map((id) => prepared({ id }));
    if (!a || !b || !c) throw new Error('three tokens were prepared');
    cache.putToken(a);
    cache.putToken(b);
    cache.token(a.id);
    cache.putToken(c);
    expect([cache.token(a.id), cache.token(b.id), cache.token(c.id)]).toEqual([a, undefined, c]);
  });

  it('takes what Redis said last, also after a backup was restored', () => {
    const cache = new RecordCache(2);
    cache.putToken(prepared({ version: 7 }));
    cache.putToken(prepared({ version: 3 }));
    expect(cache.token('a1B2c3D4e5F6')?.version).toBe(3);
  });

  it('drops the foreign hash with its token, so that an import anew is found', () => {
    const cache = new RecordCache(2);
    const token = prepared({ foreign: true });
    cache.putToken(token);
    cache.putForeignId('ab'.repeat(32), token.id);
    cache.dropToken(token.id);
    expect(cache.foreignId('ab'.repeat(32))).toBeUndefined();
    expect(cache.token(token.id)).toBeUndefined();
  });

  it('is empty after clear', () => {
    const cache = new RecordCache(2);
    cache.putToken(prepared());
    cache.putTenant(prepareTenant(JSON.stringify(aTenantRecord())));
    cache.putForeignId('x', 'y');
    cache.clear();
    expect([cache.token('a1B2c3D4e5F6'), cache.tenant('acme'), cache.foreignId('x')]).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
  });
});
