import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseTenantChanges, parseTenantDraft } from '../../../src/tenant/draft.js';
import { DraftError } from '../../../src/tenant/refusal.js';
import {
  applyTokenChanges,
  parseImportDraft,
  parseRotation,
  parseTokenChanges,
  parseTokenDraft,
} from '../../../src/token/draft.js';
import { aTokenRecord } from './records.js';

const nowMs = Date.UTC(2026, 0, 1);

function faultsOf(run: () => unknown): string[] {
  try {
    run();
  } catch (error) {
    if (error instanceof DraftError) return error.faults.map(({ field }) => field);
    throw error;
  }
  return [];
}

const faultsOfDraft = (fields: object): string[] => faultsOf(() => parseTokenDraft({ name: 'n', ...fields }, nowMs));

describe('parseTokenDraft', () => {
  it('fills in the documented defaults', () => {
    expect(parseTokenDraft({ name: ' till 3 ' }, nowMs)).toEqual({
      name: 'till 3',
      description: '',
      mode: 'bearer',
      scopes: [],
      rateLimit: { limit: 60, window: 60, algorithm: 'sliding-window' },
      limits: [],
      quota: null,
      expiresAt: null,
      subject: null,
      allowedIps: [],
      metadata: {},
      lease: false,
    });
  });

  it('completes a limit of which only a part is given', () => {
    const draft = parseTokenDraft(
      {
        name: 'n',
        rateLimit: { limit: 5 },
        limits: [
          { limit: 9, window: 1 },
          { limit: 7, period: 'day' },
        ],
      },
      nowMs,
    );
    expect(draft.rateLimit).toEqual({ limit: 5, window: 60, algorithm: 'sliding-window' });
    expect(draft.limits).toEqual([
      { limit: 9, window: 1, algorithm: 'sliding-window' },
      { limit: 7, period: 'day' },
    ]);
  });

  it.each<[string, object, string]>([
    ['an empty name', { name: '   ' }, 'name'],
    ['a name of 101 characters', { name: 'x'.repeat(101) }, 'name'],
    ['a name with a control character', { name: 'a\u001b[31m' }, 'name'],
    ['a description of 501 characters', { description: 'x'.repeat(501) }, 'description'],
    ['51 scopes', { scopes: Array.from({ length: 51 }, (_, i) => `s${i}`) }, 'scopes'],
    ['a scope in capitals', { scopes: ['Products:read'] }, 'scopes.0'],
    ['a scope with a space', { scopes: ['ok', 'a b'] }, 'scopes.1'],
    ['a scope of 65 characters', { scopes: ['x'.repeat(65)] }, 'scopes.0'],
    ['no address', { allowedIps: ['example.com'] }, 'allowedIps.0'],
    ['a CIDR with too long a prefix', { allowedIps: ['10.0.0.0/33'] }, 'allowedIps.0'],
    ['an address in octal', { allowedIps: ['010.0.0.1'] }, 'allowedIps.0'],
    ['an address with a zone', { allowedIps: ['fe80::1%eth0'] }, 'allowedIps.0'],
    ['a subject with a line break', { subject: 'a\r\nX-Admin: 1' }, 'subject'],
    ['a subject outside ASCII', { subject: 'jos\u00e9' }, 'subject'],
    ['a subject of 129 characters', { subject: 'x'.repeat(129) }, 'subject'],
    ['an empty subject', { subject: '' }, 'subject'],
    [
      '21 keys of metadata',
      { metadata: Object.fromEntries(Array.from({ length: 21 }, (_, i) => [i, ''])) },
      'metadata',
    ],
    ['a metadata key of 65 characters', { metadata: { ['k'.repeat(65)]: '' } }, `metadata.${'k'.repeat(65)}`],
    ['a metadata value of 257 characters', { metadata: { k: 'x'.repeat(257) } }, 'metadata.k'],
    ['a metadata value that is no text', { metadata: { k: 1 } }, 'metadata.k'],
    ['a limit of zero', { rateLimit: { limit: 0 } }, 'rateLimit.limit'],
    ['a limit above 10^9', { rateLimit: { limit: 1e9 + 1 } }, 'rateLimit.limit'],
    ['half a call', { rateLimit: { limit: 1.5 } }, 'rateLimit.limit'],
    ['a window over 366 days', { rateLimit: { window: 31_622_401 } }, 'rateLimit.window'],
    ['an unknown algorithm', { rateLimit: { algorithm: 'leaky' } }, 'rateLimit.algorithm'],
    ['a lease of signatures', { lease: true, mode: 'hmac' }, 'lease'],
    ['a lease of a bucket', { lease: true, rateLimit: { algorithm: 'token-bucket' } }, 'lease'],
    [
      'a lease of a further bucket',
      { lease: true, limits: [{ limit: 1, window: 1, algorithm: 'token-bucket' }] },
      'lease',
    ],
    ['a burst without a bucket', { rateLimit: { burst: 5 } }, 'rateLimit.burst'],
    ['a limit with neither window nor period', { limits: [{ limit: 1 }] }, 'limits.0'],
    ['a limit with window and period', { limits: [{ limit: 1, window: 1, period: 'day' }] }, 'limits.0'],
    ['a quota by the week', { quota: { limit: 1, period: 'week' } }, 'quota.period'],
    ['two limits of one identity', { limits: [{ limit: 9, window: 60 }] }, 'limits.0'],
    [
      'a quota that is also among the limits',
      { limits: [{ limit: 9, period: 'day' }], quota: { limit: 1, period: 'day' } },
      'quota',
    ],
    ['nine limits together', { limits: Array.from({ length: 8 }, (_, i) => ({ limit: 1, window: i + 1 })) }, 'limits'],
    ['an expiry in the past', { expiresAt: '2025-12-31T23:59:59Z' }, 'expiresAt'],
    ['an expiry without an offset', { expiresAt: '2027-01-01T00:00:00' }, 'expiresAt'],
    ['the 30th of February', { expiresAt: '2027-02-30T00:00:00Z' }, 'expiresAt'],
    ['an expiry beyond the year 9999', { expiresAt: '999999999w' }, 'expiresAt'],
    ['an unknown mode', { mode: 'basic' }, 'mode'],
    ['an unknown field', { admin: true }, 'admin'],
    ['a state of its own', { state: 'revoked' }, 'state'],
  ])('refuses %s and names the field', (_, fields, field) => {
    expect(faultsOfDraft(fields)).toEqual([field]);
  });

  it('names every field at fault at once', () => {
    expect(faultsOf(() => parseTokenDraft({ scopes: ['B'], subject: ' ' }, nowMs))).toEqual([
      'name',
      'scopes.0',
      'subject',
    ]);
  });

  it('takes what stands exactly on its bounds', () => {
    const fields = {
      name: 'x'.repeat(100),
      description: `${'x'.repeat(497)}\n\té`,
      scopes: ['x'.repeat(64), 'products:*', 'a.b_c-d'],
      allowedIps: ['10.0.0.0/8', '::1', '2001:db8::/32', '192.0.2.1'],
      subject: 'x'.repeat(128),
      metadata: { ['k'.repeat(64)]: 'x'.repeat(256) },
      rateLimit: { limit: 1e9, window: 31_622_400, algorithm: 'token-bucket', burst: 1e9 },
      limits: Array.from({ length: 6 }, (_, i) => ({ limit: 1, window: i + 1 })),
      quota: { limit: 1, period: 'month' },
    };
    expect(faultsOfDraft(fields)).toEqual([]);
  });

  it('reads an expiry as RFC 3339 in any offset, or from now', () => {
    const expiryOf = (expiresAt: string): number | null => parseTokenDraft({ name: 'n', expiresAt }, nowMs).expiresAt;
    expect(expiryOf('2027-01-31T01:00:00+01:00')).toBe(Date.UTC(2027, 0, 31));
    expect(expiryOf('2027-01-31t00:00:00.5z')).toBe(Date.UTC(2027, 0, 31) + 500);
    expect(expiryOf('30d')).toBe(nowMs + 30 * 86_400_000);
    expect(expiryOf('90s')).toBe(nowMs + 90_000);
  });

  it('keeps each scope and address once, in the order given', () => {
    const draft = parseTokenDraft({ name: 'n', scopes: ['b', 'a', 'b'], allowedIps: ['::1', '::1'] }, nowMs);
    expect(draft.scopes).toEqual(['b', 'a']);
    expect(draft.allowedIps).toEqual(['::1']);
  });

  it('lets no key reach a prototype', () => {
    expect(faultsOf(() => parseTokenDraft(JSON.parse('{"name":"n","__proto__":{"mode":"hmac"}}'), nowMs))).toEqual([
      '__proto__',
    ]);
    expect(faultsOf(() => parseTokenDraft(JSON.parse('{"name":"n","metadata":{"__proto__":"x"}}'), nowMs))).toEqual([
      'metadata',
    ]);
    const draft = parseTokenDraft(JSON.parse('{"name":"n","metadata":{"constructor":"x","toString":"y"}}'), nowMs);
    expect(Object.entries(draft.metadata)).toEqual([
      ['constructor', 'x'],
      ['toString', 'y'],
    ]);
    expect(({} as Record<string, unknown>).mode).toBeUndefined();
  });

  it('answers any JSON at all with a draft or named faults, never with another error', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (input) => {
        expect(faultsOf(() => parseTokenDraft(input, nowMs))).toBeInstanceOf(Array);
        expect(faultsOf(() => parseTokenDraft({ name: 'n', metadata: input, limits: input }, nowMs))).toBeInstanceOf(
          Array,
        );
      }),
    );
  });
});

describe('parseImportDraft', () => {
  it('takes a SHA-256 in either case and nothing else', () => {
    expect(parseImportDraft({ name: 'n', sha256: 'AB'.repeat(32) }, nowMs).sha256).toBe('ab'.repeat(32));
    expect(faultsOf(() => parseImportDraft({ name: 'n', sha256: 'ab' }, nowMs))).toEqual(['sha256']);
    expect(faultsOf(() => parseImportDraft({ name: 'n', sha256: 'ab'.repeat(32), mode: 'hmac' }, nowMs))).toEqual([
      'mode',
    ]);
  });
});

describe('parseTokenChanges and applyTokenChanges', () => {
  const record = aTokenRecord({
    rateLimit: { limit: 10, window: 30, algorithm: 'token-bucket', burst: 4 },
    metadata: { keep: '1', drop: '2' },
    quota: { limit: 5, period: 'day' },
    expiresAt: nowMs + 1,
  });
  const changed = (input: object) => applyTokenChanges(record, parseTokenChanges(input, nowMs));

  it('leaves everything alone that is not named', () => {
    expect(changed({})).toEqual(record);
    expect(changed({ name: 'other' })).toEqual({ ...record, name: 'other' });
  });

  it('changes a part of a limit and keeps the rest of it', () => {
    expect(changed({ rateLimit: { limit: 99 } }).rateLimit).toEqual({ ...record.rateLimit, limit: 99 });
    expect(changed({ rateLimit: { algorithm: 'fixed-window' } }).rateLimit).toEqual({
      limit: 10,
      window: 30,
      algorithm: 'fixed-window',
    });
  });

  it('takes away by null', () => {
    const { quota, expiresAt, subject, metadata } = changed({
      quota: null,
      expiresAt: null,
      subject: null,
      metadata: { drop: null, add: '3' },
    });
    expect({ quota, expiresAt, subject, metadata }).toEqual({
      quota: null,
      expiresAt: null,
      subject: null,
      metadata: { keep: '1', add: '3' },
    });
  });

  it('refuses what contradicts the rest of the record', () => {
    expect(faultsOf(() => changed({ limits: [{ limit: 1, period: 'day' }] }))).toEqual(['quota']);
    expect(faultsOf(() => changed({ limits: [{ limit: 1, window: 30, algorithm: 'token-bucket' }] }))).toEqual([
      'limits.0',
    ]);
  });

  it('changes neither identity, mode, tenant nor secret', () => {
    for (const field of ['id', 'mode', 'tenant', 'state', 'secretSha256', 'version', 'createdAt']) {
      expect(faultsOf(() => parseTokenChanges({ [field]: 'x' }, nowMs))).toEqual([field]);
    }
  });
});

describe('parseRotation', () => {
  it('gives no grace unless asked, and 30 days at most', () => {
    expect(parseRotation({})).toEqual({ graceSeconds: 0 });
    expect(parseRotation({ graceSeconds: 2_592_000 })).toEqual({ graceSeconds: 2_592_000 });
    expect(faultsOf(() => parseRotation({ graceSeconds: 2_592_001 }))).toEqual(['graceSeconds']);
    expect(faultsOf(() => parseRotation({ graceSeconds: -1 }))).toEqual(['graceSeconds']);
  });
});

describe('parseTenantDraft', () => {
  it('fills in the documented defaults', () => {
    expect(parseTenantDraft({ slug: 'acme', name: 'Acme' })).toEqual({
      slug: 'acme',
      name: 'Acme',
      maxTokens: 25,
      requireHttps: false,
      revealSecrets: false,
      rateLimit: null,
    });
  });

  it.each(['', '_', '-a', 'a-', 'A', 'a.b', 'a b', 'a\n', 'x'.repeat(64), 'a:b', '{a}'])(
    'refuses the slug %j',
    (slug) => {
      expect(faultsOf(() => parseTenantDraft({ slug, name: 'n' }))).toEqual(['slug']);
    },
  );

  it.each(['a', '1', 'a-b', 'x'.repeat(63)])('takes the slug %s', (slug) => {
    expect(parseTenantDraft({ slug, name: 'n' }).slug).toBe(slug);
  });

  it('has no change of the slug', () => {
    expect(faultsOf(() => parseTenantChanges({ slug: 'other' }))).toEqual(['slug']);
  });
});
