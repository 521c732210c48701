/** Where a command's operations come from: the Redis of the configuration, or the admin API of `--server`. */
import { hostname, userInfo } from 'node:os';
import type { Command } from 'commander';
import type { Config } from '../config/schema.js';
import type { Management } from '../management/management.js';
import type { Operations } from '../management/operations.js';
import type { Principal } from '../management/principal.js';
import type { Store } from '../redis/store.js';
import { configOf } from './config-option.js';
import type { CliContext } from './context.js';
import { serverOf } from './server-option.js';

/**
 * Runs `use` with what the person may do.
 * `mayBeEmpty`: do not ask that Tollkeeper's data is in the Redis already.
 * @throws OperatorError when neither can be used; what the operations throw.
 */
export async function withOperations<T>(
  command: Command,
  context: CliContext,
  use: (operations: Operations) => Promise<T>,
  open: { readonly mayBeEmpty: boolean } = { mayBeEmpty: false },
): Promise<T> {
  const server = serverOf(command, context);
  if (server !== undefined) {
    const { RemoteOperations } = await import('./remote-operations.js');
    return use(new RemoteOperations(server, context));
  }
  return withManagement(
    configOf(command, context),
    context,
    ({ management }) => use(management.as(commandPrincipal())),
    open,
  );
}

/** The management of a Redis, for commands that need more than its operations. */
export interface ManagementSession {
  readonly store: Store;
  readonly management: Management;
  /** Who runs the command. */
  readonly principal: Principal;
}

/** As {@link withOperations}, on the Redis alone. */
export async function withManagement<T>(
  config: Config,
  context: CliContext,
  use: (session: ManagementSession) => Promise<T>,
  open: { readonly mayBeEmpty: boolean } = { mayBeEmpty: false },
): Promise<T> {
  // Loaded here: a command that asks a server needs none of it.
  const [{ Management }, { withLogRedis, withStore }, { parseMasterKeys }, { readLastUsed }] = await Promise.all([
    import('../management/management.js'),
    import('./store-session.js'),
    import('../credential/sealed-secret.js'),
    import('../usage/reader.js'),
  ]);
  return withStore(
    config,
    (store) => {
      const management = new Management(store, {
        tokenPrefix: config.tokenPrefix,
        masterKeys: config.masterKey === undefined ? undefined : parseMasterKeys(config.masterKey),
        auditMaxEntries: config.auditMaxEntries,
        lastUsed: async (tenant, ids) =>
          (await withLogRedis(config, store, context.err, (redis) => readLastUsed(redis, tenant, ids))) ??
          ids.map(() => null),
        outcomeLost: ({ action }) =>
          context.err(`tollkeeper: ${action} was done, but its outcome could not be written to the audit log.`),
      });
      return use({ store, management, principal: commandPrincipal() });
    },
    open,
  );
}

/** Whoever can reach the Redis can do everything; the audit log says which user of which machine it was. */
function commandPrincipal(): Principal {
  return { kind: 'command', name: `${userName()}@${hostname()}`, role: 'operator', tenant: null, address: '' };
}

function userName(): string {
  try {
    return userInfo().username;
  } catch {
    // No entry for this user id, as in many containers.
    return `uid-${process.getuid?.() ?? 'unknown'}`;
  }
}
