/** `/v1/explain`: why a request is admitted or refused. What explains lies above this folder and is handed in. */
import { z } from 'zod';
import { notAnAddress, parseAddress } from '../http/address.js';
import { isValidHost } from '../http/host.js';
import { requireTenantAccess } from '../management/principal.js';
import { NotFoundError } from '../tenant/refusal.js';
import { type AnyRoute, route } from './route.js';
import { Slots } from './slots.js';

/** A request that is described, not sent. */
interface DescribedRequest {
  readonly method: string;
  /** Path and query as in the request line. */
  readonly target: string;
  readonly fields: readonly (readonly [name: string, value: string])[];
  readonly body: Buffer;
  /** Address that the connection comes from. */
  readonly peer: string;
  readonly host: string;
  readonly scheme: 'http' | 'https' | undefined;
}

export interface ExplainRequests {
  /**
   * `tokenId`: its secret is taken for shown. `within`: slug of the tenant whose tokens alone are known; undefined: all.
   * Answers what `explain --json` prints.
   */
  described(
    request: DescribedRequest,
    tokenId: string | undefined,
    within: string | undefined,
  ): Promise<{ readonly token: { readonly tenant: string } | null }>;
  /** Entries of the access log under this id, newest first. `tenants`: slugs; undefined: all, and requests of none. */
  logged(requestId: string, tenants: readonly string[] | undefined, sinceMs: number): Promise<readonly unknown[]>;
}

const dayMs = 86_400_000;
const field = z.strictObject({ name: z.string().min(1).max(128), value: z.string().max(8192) });

const explainInput = z.strictObject({
  request: z
    .string()
    .max(8192)
    .regex(/^[!-~]+ \/[!-~]*$/, 'must be a method and a target, such as GET /api/v1/products?page=2')
    .optional(),
  token: z.string().optional().describe('id of a token: its secret is taken for shown'),
  headers: z.array(field).max(100).default([]),
  body: z.string().default('').describe('base64'),
  ip: z
    .string()
    .refine((text) => parseAddress(text) !== notAnAddress, 'must be an IP address')
    .default('127.0.0.1'),
  host: z.string().refine(isValidHost, 'must be a host').default('localhost'),
  scheme: z.enum(['http', 'https']).optional(),
  requestId: z.string().min(1).max(200).optional().describe('looks a request up in the access log instead'),
  days: z.int().min(1).max(31).default(1).describe('how far back to look, with requestId'),
});

const explanationSchema = z.looseObject({
  request: z.looseObject({}),
  verdict: z
    .looseObject({ admitted: z.boolean(), status: z.int().nullable(), outcome: z.string(), detail: z.string() })
    .describe('of the request as it would be decided now'),
  route: z.looseObject({}).nullable(),
  token: z.looseObject({ id: z.string(), tenant: z.string() }).nullable(),
  checks: z.array(z.strictObject({ check: z.string(), result: z.string(), found: z.string(), problem: z.string() })),
  limits: z.array(z.looseObject({})),
  signature: z.looseObject({ form: z.string(), canonicalString: z.string() }).nullable(),
});

/** Each may read a month of the log. */
const lookupsAtATime = { each: 2, total: 8 };

export function explainRoutes(explain: ExplainRequests): readonly AnyRoute[] {
  const lookups = new Slots(lookupsAtATime);
  return [
    route({
      method: 'POST',
      path: '/explain',
      id: 'explain',
      tag: 'Policy',
      summary: 'Say why a request is admitted or refused: every check in order; nothing is charged or used up',
      description:
        'Either `request`, with a `token` or the headers of a credential, or `requestId` for one that is logged, which ' +
        'answers `{requestId, entries}`. An owner asks about the tokens of its tenant.',
      repeatable: true,
      body: explainInput.refine(({ request, requestId }) => (request === undefined) !== (requestId === undefined), {
        error: 'needs either request or requestId',
      }),
      answer: {
        status: 200,
        schema: z.union([
          explanationSchema,
          z.strictObject({ requestId: z.string(), entries: z.array(z.looseObject({})) }),
        ]),
        description: 'The explanation',
      },
      handle: async ({ principal, operations, body }) => {
        const owned = principal.role === 'owner' ? [principal.tenant ?? ''] : undefined;
        const { requestId } = body;
        if (requestId !== undefined) {
          const sinceMs = Date.now() - body.days * dayMs;
          const entries = await lookups.run(principal, () => explain.logged(requestId, owned, sinceMs));
          if (entries.length === 0) throw new NotFoundError('No request with this id was logged in that time.');
          return { requestId, entries };
        }
        if (body.token !== undefined) await operations.showToken({ id: body.token });
        const [method = '', target = ''] = (body.request ?? '').split(' ');
        const explanation = await explain.described(
          {
            method,
            target,
            fields: body.headers.map(({ name, value }) => [name, value] as const),
            body: Buffer.from(body.body, 'base64'),
            peer: body.ip,
            host: body.host,
            scheme: body.scheme,
          },
          body.token,
          // A credential in the headers may be of anybody: the id of a token is no secret.
          owned?.[0],
        );
        if (explanation.token !== null) requireTenantAccess(principal, explanation.token.tenant);
        return explanation;
      },
    }),
  ];
}
