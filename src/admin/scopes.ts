/** `/v1/scopes`. */
import { z } from 'zod';
import { type AnyRoute, route } from './route.js';

/** `declared` answers the scopes of the policy in force. */
export function scopeRoutes(declared: () => readonly string[]): readonly AnyRoute[] {
  return [
    route({
      method: 'GET',
      path: '/scopes',
      id: 'listScopes',
      tag: 'Policy',
      summary: 'The scopes that the policy in force declares',
      answer: {
        status: 200,
        schema: z.strictObject({ data: z.array(z.string()) }),
        description: 'All of them, in alphabetical order',
      },
      handle: () => Promise.resolve({ data: declared().toSorted() }),
    }),
  ];
}
