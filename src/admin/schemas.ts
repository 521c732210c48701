/** Schemas of what the admin API answers, each with its name in the OpenAPI document. Inputs are in the domain folders. */
import { z } from 'zod';
import { algorithms, periods } from '../admission/limit.js';
import { actorKinds, auditResults } from '../audit/record.js';
import { tokenModes } from '../token/token.js';
import { roles } from '../user/user.js';

/** Schemas that the document names and refers to. */
export const named = z.registry<{ readonly id: string }>();

function component<S extends z.ZodType>(id: string, schema: S): S {
  named.add(schema, { id });
  return schema;
}

const time = z.iso.datetime().describe('RFC 3339, UTC');
const slug = z.string().describe('slug of a tenant');

const rateLimitSchema = component(
  'RateLimit',
  z.strictObject({
    limit: z.int(),
    window: z.int().describe('seconds'),
    algorithm: z.enum(algorithms),
    burst: z.int().optional(),
  }),
);
const quotaSchema = component('Quota', z.strictObject({ limit: z.int(), period: z.enum(periods) }));

export const tenantSchema = component(
  'Tenant',
  z.strictObject({
    slug,
    name: z.string(),
    state: z.enum(['active', 'deleting']),
    maxTokens: z.int(),
    requireHttps: z.boolean(),
    revealSecrets: z.boolean().describe('HMAC secrets may be shown again'),
    rateLimit: rateLimitSchema.nullable(),
    createdAt: time,
    version: z.int().describe('raised by every change; also the ETag'),
  }),
);

export const tokenSchema = component(
  'Token',
  z.strictObject({
    id: z.string(),
    tenant: slug,
    name: z.string(),
    description: z.string(),
    mode: z.enum(tokenModes),
    state: z.enum(['active', 'inactive', 'revoked']),
    active: z.boolean(),
    scopes: z.array(z.string()),
    rateLimit: rateLimitSchema,
    limits: z.array(z.union([rateLimitSchema, quotaSchema])),
    quota: quotaSchema.nullable(),
    expiresAt: time.nullable(),
    subject: z.string().nullable(),
    allowedIps: z.array(z.string()),
    metadata: z.record(z.string(), z.string()),
    lease: z.boolean().describe('while it is very hot, units may be charged up to 100 ms in advance'),
    foreign: z.boolean().describe('imported by its SHA-256'),
    createdAt: time,
    rotatedAt: time.nullable(),
    previousUntil: time.nullable().describe('end of the grace of the secret before the last rotation'),
    lastUsedAt: time.nullable(),
    version: z.int().describe('raised by every change; also the ETag'),
  }),
);

export const issuedTokenSchema = component(
  'IssuedToken',
  z.strictObject({ token: tokenSchema, secret: z.string().describe('the plaintext: shown this once') }),
);

export const auditSchema = component(
  'AuditRecord',
  z.strictObject({
    seq: z.int(),
    at: time,
    actor: z.strictObject({
      kind: z.enum(actorKinds),
      name: z.string(),
      role: z.string(),
      address: z.string().describe('of the client; empty for a command'),
    }),
    action: z.string().describe('`token.rotate`'),
    tenant: z.string().describe('slug, or empty'),
    target: z.string().describe('`token:<id>`, `tenant:<slug>`, `user:<name>`'),
    result: z.enum(auditResults),
    attempt: z.int().nullable().describe('the attempt whose outcome this is'),
    details: z.record(z.string(), z.unknown()),
    hash: z.string(),
  }),
);

export const problemSchema = component(
  'Problem',
  z
    .looseObject({
      type: z.string(),
      title: z.string(),
      status: z.int(),
      detail: z.string(),
      instance: z.string().describe('id of the request'),
      errors: z.array(z.strictObject({ field: z.string(), message: z.string() })).optional(),
    })
    .describe('RFC 9457'),
);

/** One page of a list. */
export function listOf(item: z.ZodType): z.ZodType {
  const meta = z.strictObject({ page: z.int(), per_page: z.int(), total: z.int(), total_pages: z.int() });
  return z.strictObject({ data: z.array(item), meta });
}

export const userSchema = component(
  'User',
  z.strictObject({
    name: z.string(),
    role: z.enum(roles),
    tenant: slug.nullable().describe("an owner's tenant"),
    createdAt: time,
    passwordChangedAt: time,
    version: z.int().describe('raised by every change; also the ETag'),
  }),
);

export const adminKeySchema = component(
  'AdminKey',
  z.strictObject({ id: z.string(), user: z.string(), name: z.string(), createdAt: time, expiresAt: time }),
);

export const issuedAdminKeySchema = component(
  'IssuedAdminKey',
  z.strictObject({ key: adminKeySchema, secret: z.string().describe('the plaintext: shown this once') }),
);

export const loginSchema = z.strictObject({ user: userSchema, endsAt: time.describe('of the session, at the latest') });

export const principalSchema = component(
  'Principal',
  z.strictObject({
    kind: z.enum(actorKinds),
    name: z.string(),
    role: z.enum(roles),
    tenant: slug.nullable(),
    sessionEndsAt: time.nullable(),
  }),
);

export const sessionSchema = component(
  'Session',
  z.strictObject({
    id: z.string().describe('names it, and opens nothing'),
    createdAt: time,
    endsAt: time,
    address: z.string(),
    userAgent: z.string(),
    current: z.boolean().describe('the one that asks'),
  }),
);
