/** `/v1/tenants`. */
import { z } from 'zod';
import { tenantChangesInput, tenantDraftInput } from '../tenant/draft.js';
import { type AnyRoute, pageOf, pageQuery, route } from './route.js';
import { listOf, tenantSchema } from './schemas.js';

const tag = 'Tenants';
const params = z.strictObject({ tenant: z.string() });

export const tenantRoutes: readonly AnyRoute[] = [
  route({
    method: 'POST',
    path: '/tenants',
    id: 'createTenant',
    tag,
    summary: 'Create a tenant; the first one initialises the Redis',
    description: 'For operators.',
    body: tenantDraftInput,
    versioned: true,
    answer: { status: 201, schema: tenantSchema, description: 'The tenant' },
    handle: ({ operations, body }) => operations.createTenant(body),
  }),
  route({
    method: 'GET',
    path: '/tenants',
    id: 'listTenants',
    tag,
    summary: 'List the tenants in the order of their creation; an owner sees its own',
    query: z.strictObject(pageQuery),
    answer: { status: 200, schema: listOf(tenantSchema), description: 'One page' },
    handle: ({ operations, query }) => operations.listTenants(pageOf(query)),
  }),
  route({
    method: 'GET',
    path: '/tenants/{tenant}',
    id: 'showTenant',
    tag,
    summary: 'Show a tenant',
    params,
    versioned: true,
    answer: { status: 200, schema: tenantSchema, description: 'The tenant' },
    handle: ({ operations, params: { tenant } }) => operations.showTenant(tenant),
  }),
  route({
    method: 'PATCH',
    path: '/tenants/{tenant}',
    id: 'updateTenant',
    tag,
    summary: 'Change a tenant; what is not named stays',
    description: 'For operators. `rateLimit: null` takes the tenant-wide limit away.',
    params,
    body: tenantChangesInput,
    conditional: true,
    versioned: true,
    answer: { status: 200, schema: tenantSchema, description: 'The tenant as it is now' },
    handle: ({ operations, params: { tenant }, body, ifVersion }) =>
      operations.updateTenant(tenant, body, { ifVersion }),
  }),
  route({
    method: 'DELETE',
    path: '/tenants/{tenant}',
    id: 'deleteTenant',
    tag,
    summary: 'Delete a tenant; its logs stay until their retention',
    description: 'For operators. Without `force=true` it must have no tokens.',
    params,
    query: z.strictObject({ force: z.enum(['true', 'false']).default('false').describe('its tokens too') }),
    confirmed: 'session',
    answer: { status: 204, description: 'It is deleted' },
    handle: ({ operations, params: { tenant }, query }) =>
      operations.deleteTenant(tenant, { force: query.force === 'true' }),
  }),
];
