/** The client that openapi-typescript and openapi-fetch make of the OpenAPI document of the admin API. */
import createClient, { type Client } from 'openapi-fetch';
import type { components, paths } from './admin-client.js';

export type AdminClient = Client<paths>;
export type Token = components['schemas']['Token'];

export const adminKey = 'an-admin-key-of-the-tests';

/** A client of the admin plane at `url` that shows `key` in every request. */
export function adminClient(url: string, key: string = adminKey): AdminClient {
  return createClient<paths>({ baseUrl: url, headers: { authorization: `Bearer ${key}` } });
}
