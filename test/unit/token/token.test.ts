import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeChanged, RecordError } from '../../../src/tenant/record-reader.js';
import { decodeTenantRecord, tenantLimits, toTenantView } from '../../../src/tenant/tenant.js';
import { decodeTokenRecord, effectiveLimits, encodeTokenRecord, toTokenView } from '../../../src/token/token.js';
import { aTenantRecord, aTokenRecord } from './records.js';

const full = aTokenRecord({
  limits: [
    { limit: 10, window: 1, algorithm: 'fixed-window' },
    { limit: 5, window: 10, algorithm: 'token-bucket', burst: 2 },
    { limit: 9, period: 'day' },
  ],
  quota: { limit: 100_000, period: 'month' },
  expiresAt: Date.UTC(2027, 0, 1),
  subject: 'u1',
  allowedIps: ['10.0.0.0/8'],
  metadata: { a: 'b' },
  rotatedAt: Date.UTC(2026, 1, 1),
  previousSha256: 'cd'.repeat(32),
  previousUntil: Date.UTC(2026, 1, 2),
});

describe('decodeTokenRecord', () => {
  it('reads back what was written', () => {
    expect(decodeTokenRecord(JSON.stringify(full))).toEqual(full);
    expect(decodeTokenRecord(JSON.stringify(aTokenRecord()))).toEqual(aTokenRecord());
  });

  it('passes over fields of a newer version', () => {
    expect(decodeTokenRecord(JSON.stringify({ ...full, allowedMethods: ['GET'] }))).toEqual(full);
  });

  it('takes a field that an older version did not know for null', () => {
    const { previousSealedSecret: _, ...older } = full;
    expect(decodeTokenRecord(JSON.stringify(older))).toEqual(full);
  });

  it.each(Object.keys(full))('refuses a record whose %s has another type', (field) => {
    const damaged = JSON.stringify({ ...full, [field]: { not: ['this'] } });
    if (field === 'metadata')
      return expect(() => decodeTokenRecord(JSON.stringify({ ...full, metadata: { a: 1 } }))).toThrow(RecordError);
    return expect(() => decodeTokenRecord(damaged)).toThrow(RecordError);
  });

  it.each([
    { state: 'paused' },
    { mode: 'basic' },
    { rateLimit: { limit: 0, window: 60, algorithm: 'sliding-window' } },
    { rateLimit: { limit: 1, window: 60, algorithm: 'leaky' } },
    { rateLimit: { limit: 1, period: 'day' } },
    { limits: [{ limit: 1, period: 'week' }] },
    { quota: { limit: 1, window: 1, algorithm: 'fixed-window' } },
  ])('refuses what it does not understand rather than letting it pass: %j', (fields) => {
    expect(() => decodeTokenRecord(JSON.stringify({ ...full, ...fields }))).toThrow(RecordError);
  });

  it('never quotes the record in its error', () => {
    for (const json of [`{"secretSha256":"${full.secretSha256}"`, `"${full.secretSha256}"`, '[]', 'null', '']) {
      expect(() => decodeTokenRecord(json)).toThrow(RecordError);
      expect(() => decodeTokenRecord(json)).not.toThrow(new RegExp(full.secretSha256));
    }
  });

  it('answers any JSON with a record or a RecordError', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.constantFrom(...Object.keys(full)), (value, field) => {
        try {
          decodeTokenRecord(JSON.stringify({ ...full, [field]: value }));
        } catch (error) {
          expect(error).toBeInstanceOf(RecordError);
        }
      }),
    );
  });
});

describe('encodeTokenRecord', () => {
  it('leaves out what says nothing, and reads back as the same record', () => {
    const plain = aTokenRecord();
    expect(Object.keys(JSON.parse(encodeTokenRecord(plain)) as object)).toEqual(
      'id tenant name mode state scopes rateLimit limits allowedIps createdAt version secretSha256'.split(' '),
    );
    for (const record of [plain, full]) expect(decodeTokenRecord(encodeTokenRecord(record))).toEqual(record);
  });

  it('takes away what a change took away, and keeps what a newer version wrote', () => {
    const before = JSON.stringify({ ...JSON.parse(encodeTokenRecord(full)), allowedMethods: null });
    const changed = encodeTokenRecord({ ...full, subject: null, expiresAt: null, metadata: {} }, before);
    expect(JSON.parse(changed)).toMatchObject({ allowedMethods: null });
    expect(decodeTokenRecord(changed)).toEqual({ ...full, subject: null, expiresAt: null, metadata: {} });
  });

  it.each(['id', 'mode', 'state', 'scopes', 'rateLimit', 'limits', 'allowedIps', 'secretSha256'])(
    'refuses to read a record without %s',
    (field) => {
      const without = { ...JSON.parse(encodeTokenRecord(full)), [field]: undefined };
      expect(() => decodeTokenRecord(JSON.stringify(without))).toThrow(RecordError);
    },
  );
});

describe('encodeChanged', () => {
  it('keeps what a newer version wrote and this one does not know', () => {
    const newer = JSON.stringify({ ...full, allowedMethods: ['GET'] });
    expect(JSON.parse(encodeChanged(newer, { ...full, name: 'other' }))).toEqual({
      ...full,
      name: 'other',
      allowedMethods: ['GET'],
    });
  });
});

describe('toTokenView', () => {
  it('shows times in RFC 3339 and neither secret, hash nor sealed secret', () => {
    const view = toTokenView({ ...full, sealedSecret: 'v1.sealed' }, Date.UTC(2026, 2, 1));
    expect(view).toMatchObject({
      active: true,
      createdAt: '2026-01-01T00:00:00.000Z',
      expiresAt: '2027-01-01T00:00:00.000Z',
      rotatedAt: '2026-02-01T00:00:00.000Z',
      previousUntil: '2026-02-02T00:00:00.000Z',
      lastUsedAt: '2026-03-01T00:00:00.000Z',
    });
    const text = JSON.stringify(view);
    for (const hidden of [full.secretSha256, full.previousSha256 as string, 'v1.sealed'])
      expect(text).not.toContain(hidden);
  });

  it('is active in the state active alone', () => {
    expect(toTokenView({ ...full, state: 'inactive' }, null).active).toBe(false);
    expect(toTokenView({ ...full, state: 'revoked' }, null).active).toBe(false);
  });
});

describe('limits that count for a call', () => {
  it('come in the order rateLimit, limits, quota', () => {
    expect(effectiveLimits(full)).toEqual([full.rateLimit, ...full.limits, full.quota]);
    expect(effectiveLimits(aTokenRecord())).toEqual([aTokenRecord().rateLimit]);
  });

  it('of a tenant are the one it has, or none', () => {
    const rateLimit = { limit: 1, window: 1, algorithm: 'fixed-window' } as const;
    expect(tenantLimits(aTenantRecord({ rateLimit }))).toEqual([rateLimit]);
    expect(tenantLimits(aTenantRecord())).toEqual([]);
  });
});

describe('decodeTenantRecord', () => {
  it('reads back what was written and refuses another type', () => {
    const record = aTenantRecord({ rateLimit: { limit: 1, window: 1, algorithm: 'fixed-window' } });
    expect(decodeTenantRecord(JSON.stringify({ ...record, later: 1 }))).toEqual(record);
    for (const field of Object.keys(record)) {
      expect(() => decodeTenantRecord(JSON.stringify({ ...record, [field]: [] }))).toThrow(RecordError);
    }
    expect(toTenantView(record).createdAt).toBe('2026-01-01T00:00:00.000Z');
  });
});
