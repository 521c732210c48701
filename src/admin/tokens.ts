/** `/v1/tenants/{tenant}/tokens`. */
import { z } from 'zod';
import { importDraftInput, rotationInput, tokenChangesInput, tokenDraftInput } from '../token/draft.js';
import { type AnyRoute, pageOf, pageQuery, route } from './route.js';
import { issuedTokenSchema, listOf, tokenSchema } from './schemas.js';

const tag = 'Tokens';
const ofTenant = z.strictObject({ tenant: z.string() });
const one = z.strictObject({ tenant: z.string(), id: z.string() });
const tokens = '/tenants/{tenant}/tokens';

const switches = {
  revoke: { id: 'revokeToken', summary: 'End a token at once and for ever', confirmed: 'session' },
  activate: { id: 'activateToken', summary: 'Switch a token on' },
  deactivate: { id: 'deactivateToken', summary: 'Switch a token off, at once' },
} as const;

export const tokenRoutes: readonly AnyRoute[] = [
  route({
    method: 'POST',
    path: tokens,
    id: 'createToken',
    tag,
    summary: 'Create a token; its secret is shown this once',
    params: ofTenant,
    body: tokenDraftInput,
    secret: true,
    answer: { status: 201, schema: issuedTokenSchema, description: 'The token and its plaintext' },
    handle: ({ operations, params: { tenant }, body }) => operations.createToken(tenant, body),
  }),
  route({
    method: 'POST',
    path: `${tokens}/import`,
    id: 'importToken',
    tag,
    summary: 'Import a token that another system issued, by its SHA-256',
    params: ofTenant,
    body: importDraftInput,
    versioned: true,
    answer: { status: 201, schema: tokenSchema, description: 'The token' },
    handle: ({ operations, params: { tenant }, body }) => operations.importToken(tenant, body),
  }),
  route({
    method: 'GET',
    path: tokens,
    id: 'listTokens',
    tag,
    summary: "List a tenant's tokens in the order of their creation",
    params: ofTenant,
    query: z.strictObject(pageQuery),
    answer: { status: 200, schema: listOf(tokenSchema), description: 'One page' },
    handle: ({ operations, params: { tenant }, query }) => operations.listTokens(tenant, pageOf(query)),
  }),
  route({
    method: 'GET',
    path: `${tokens}/{id}`,
    id: 'showToken',
    tag,
    summary: 'Show a token, never its secret',
    params: one,
    versioned: true,
    answer: { status: 200, schema: tokenSchema, description: 'The token' },
    handle: ({ operations, params }) => operations.showToken(params),
  }),
  route({
    method: 'GET',
    path: '/tokens/{id}',
    id: 'findToken',
    tag,
    summary: 'Show a token of which only the id is known',
    params: z.strictObject({ id: z.string() }),
    versioned: true,
    answer: { status: 200, schema: tokenSchema, description: 'The token' },
    handle: ({ operations, params: { id } }) => operations.showToken({ id }),
  }),
  route({
    method: 'PATCH',
    path: `${tokens}/{id}`,
    id: 'updateToken',
    tag,
    summary: 'Change a token; what is not named stays, the secret too',
    description:
      '`metadata` is merged (RFC 7396): `null` takes a key away. A raised limit counts from the next request.',
    params: one,
    body: tokenChangesInput,
    conditional: true,
    versioned: true,
    answer: { status: 200, schema: tokenSchema, description: 'The token as it is now' },
    handle: ({ operations, params, body, ifVersion }) => operations.updateToken(params, body, { ifVersion }),
  }),
  route({
    method: 'POST',
    path: `${tokens}/{id}/rotate`,
    id: 'rotateToken',
    tag,
    summary: 'Draw a new secret; the old one is invalid at once, or after `graceSeconds`',
    params: one,
    body: rotationInput,
    secret: true,
    answer: { status: 200, schema: issuedTokenSchema, description: 'The token and its new plaintext' },
    handle: ({ operations, params, body }) => operations.rotateToken(params, body),
  }),
  ...(['revoke', 'activate', 'deactivate'] as const).map((verb) =>
    route({
      ...switches[verb],
      method: 'POST',
      path: `${tokens}/{id}/${verb}`,
      tag,
      params: one,
      versioned: true,
      answer: { status: 200, schema: tokenSchema, description: 'The token as it is now' },
      handle: ({ operations, params }) => operations[`${verb}Token`](params),
    }),
  ),
  route({
    method: 'POST',
    path: `${tokens}/{id}/reveal`,
    id: 'revealToken',
    tag,
    summary: 'Show the secret of an HMAC token again',
    description:
      'Only where the tenant has `revealSecrets`. A Bearer token is kept as a hash and can never be shown again (409).',
    params: one,
    confirmed: 'person',
    repeatable: true,
    secret: true,
    answer: { status: 200, schema: issuedTokenSchema, description: 'The token and its plaintext' },
    handle: ({ operations, params }) => operations.revealToken(params),
  }),
  route({
    method: 'DELETE',
    path: `${tokens}/{id}`,
    id: 'deleteToken',
    tag,
    summary: 'Delete a token; its logs stay until their retention',
    params: one,
    confirmed: 'session',
    answer: { status: 204, description: 'It is deleted' },
    handle: ({ operations, params }) => operations.deleteToken(params),
  }),
];
