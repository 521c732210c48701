import { once } from 'node:events';
import { createServer } from 'node:net';
import { parseAddress } from '../config/formats.js';
import { OperatorError } from '../core/failure.js';

/**
 * Makes sure that nobody listens on `listen` (`host:port`): workers share a port, and so would a stranger's process
 * that shares it too. Port 0 is always free.
 * @throws OperatorError that names the address and `variable`, where it is set.
 */
export async function requireFreeAddress(listen: string, variable: string): Promise<void> {
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
