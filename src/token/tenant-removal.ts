import type { TenantRepository } from '../tenant/repository.js';
import type { TokenRepository } from './repository.js';

/**
 * Deletes a tenant. With `force` its tokens go first, while no new ones can be created; when that is cut short, doing
 * it again goes on from there.
 * @throws NotFoundError; ConflictError when it has tokens and `force` is not given.
 */
export async function removeTenant(
  tenants: TenantRepository,
  tokens: TokenRepository,
  slug: string,
  { force }: { readonly force: boolean },
): Promise<void> {
  if (force) {
    await tenants.beginDeletion(slug);
    await tokens.deleteAll(slug);
  }
  await tenants.delete(slug);
}
