/** Free TCP ports for servers that cannot report the port they picked themselves (redis-server, nginx). */
import { createServer } from 'node:net';
import { once } from 'node:events';

const given = new Set<number>();

/**
 * A loopback port nobody listens on now and that this process has not given out before. Prefer port 0 where the
 * server can say what it got: between this answer and the bind another process could still take the port.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const server = createServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    server.close();
    await once(server, 'close');
    if (address === null || typeof address === 'string') throw new Error('a TCP server has no port');
    if (given.has(address.port)) continue;
    given.add(address.port);
    return address.port;
  }
}
