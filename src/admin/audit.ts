/** `/v1/audit`. */
import { z } from 'zod';
import { auditResults } from '../audit/record.js';
import { type AnyRoute, pageOf, pageQuery, route } from './route.js';
import { auditSchema, listOf } from './schemas.js';

const tag = 'Audit';
const text = z.string().max(200).optional();
const time = z.iso
  .datetime({ offset: true, error: 'must be an RFC 3339 time such as 2027-01-31T00:00:00Z' })
  .optional();
const hash = z.string().regex(/^[0-9a-f]{64}$/, 'must be the 64 hex digits of a SHA-256');

const verificationSchema = z.strictObject({
  intact: z.boolean(),
  records: z.int(),
  firstSeq: z.int(),
  lastSeq: z.int(),
  head: z.strictObject({ seq: z.int(), hash: z.string() }).describe('keep it, for a later verification'),
  openAttempts: z.int().describe('attempts without an outcome'),
  faults: z.array(z.strictObject({ seq: z.int(), message: z.string() })),
});

export const auditRoutes: readonly AnyRoute[] = [
  route({
    method: 'GET',
    path: '/audit',
    id: 'listAudit',
    tag,
    summary: 'Who did what to which tenant, token or user, when and from where; newest first',
    description: 'An owner sees what concerns its tenant. `from` is inclusive, `to` exclusive.',
    query: z.strictObject({
      ...pageQuery,
      tenant: text,
      action: text.describe('`token.revoke`, or `token` for all of the kind'),
      actor: text,
      target: text,
      result: z.enum(auditResults).optional(),
      from: time,
      to: time,
    }),
    answer: { status: 200, schema: listOf(auditSchema), description: 'One page' },
    handle: ({ operations, query }) => {
      const { page: _page, per_page: _perPage, from, to, ...filter } = query;
      return operations.listAudit({ ...filter, fromMs: timeMs(from), toMs: timeMs(to) }, pageOf(query));
    },
  }),
  route({
    method: 'POST',
    path: '/audit/verify',
    id: 'verifyAudit',
    repeatable: true,
    tag,
    summary: 'Check every record of the audit log: none changed, missing or moved',
    description: 'For operators. `head` is what an earlier verification answered.',
    body: z.strictObject({ head: z.strictObject({ seq: z.int().min(1), hash }).optional() }),
    answer: { status: 200, schema: verificationSchema, description: 'What was found' },
    handle: ({ operations, body }) => operations.verifyAudit(body.head),
  }),
];

function timeMs(text: string | undefined): number | undefined {
  return text === undefined ? undefined : Date.parse(text);
}
