import type { TenantRecord } from '../../../src/tenant/tenant.js';
import type { TokenRecord } from '../../../src/token/token.js';

/** A token's record with the given fields and harmless others. */
export function aTokenRecord(fields: Partial<TokenRecord> = {}): TokenRecord {
  return {
    id: 'a1B2c3D4e5F6',
    tenant: 'acme',
    name: 'till 3',
    description: '',
    mode: 'bearer',
    state: 'active',
    scopes: ['products:read', 'orders:write'],
    rateLimit: { limit: 60, window: 60, algorithm: 'sliding-window' },
    limits: [],
    quota: null,
    expiresAt: null,
    subject: null,
    allowedIps: [],
    metadata: {},
    createdAt: Date.UTC(2026, 0, 1),
    rotatedAt: null,
    version: 1,
    secretSha256: 'ab'.repeat(32),
    previousSha256: null,
    previousUntil: null,
    sealedSecret: null,
    previousSealedSecret: null,
    signaturesFrom: null,
    foreign: false,
    lease: false,
    ...fields,
  };
}

/** A tenant's record with the given fields and harmless others. */
export function aTenantRecord(fields: Partial<TenantRecord> = {}): TenantRecord {
  return {
    slug: 'acme',
    name: 'Acme',
    state: 'active',
    maxTokens: 25,
    requireHttps: false,
    revealSecrets: false,
    rateLimit: null,
    createdAt: Date.UTC(2026, 0, 1),
    version: 1,
    ...fields,
  };
}
