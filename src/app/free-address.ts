import { once } from 'node:events';
import { createServer } from 'node:net';
import { parseAddress } from '../config/formats.js';
import { type Config, type ConfigKey, environmentName } from '../config/schema.js';
import { OperatorError } from '../core/failure.js';

/**
 * Makes sure that nobody listens where we will: before anything opens, so that no plane answers for a process that is
 * about to end, and because workers share a port, as would a stranger's process that shares it too. Addresses that are
 * shared on purpose (`listenShared`) are not looked at: the binding itself fails beside one that does not share.
 * @throws OperatorError that names the address and the variable that sets it.
 */
export async function requireFreeAddresses(
  config: Pick<Config, 'listen' | 'verifyListen' | 'adminListen' | 'listenShared'>,
): Promise<void> {
  const shared: readonly ConfigKey[] = config.listenShared ? ['listen', 'verifyListen'] : [];
  for (const key of ['listen', 'verifyListen', 'adminListen'] as const) {
    if (shared.includes(key)) continue;
    await requireFreeAddress(config[key], environmentName(key));
  }
}

/** Port 0 is always free, and so is `off`. */
async function requireFreeAddress(listen: string, variable: string): Promise<void> {
  const at = parseAddress(listen);
  if (at === undefined || at.port === 0) return;
  // This listener shares with nobody, so that it fails beside one that does.
  const server = createServer();
  try {
    server.listen({ ...at, exclusive: true });
    await once(server, 'listening');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const fault = code === 'EADDRINUSE' ? 'another process listens there' : (code ?? 'unknown reason');
    throw new OperatorError(`Cannot listen on ${listen} (${fault}): free it or choose another ${variable}.`, 1, {
      cause: error,
    });
  }
  server.close();
  await once(server, 'close');
}
