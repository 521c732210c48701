/** Free TCP ports for servers that cannot report the port they picked themselves (redis-server, nginx). */
import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';

/** Below are the ports of well-known services. */
const lowest = 10_000;
/** Where the system begins to take ports for connections; see ip(7). */
const ephemeralFrom = firstEphemeralPort();

const given = new Set<number>();

/**
 * A loopback port nobody listens on now and that this process has not given out before. Not one of those that the system
 * gives to outgoing connections: one of them could take it before the server binds it, or while a test has it killed.
 * Prefer port 0 where the server can say what it got.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(lowest, ephemeralFrom);
    if (given.has(port) || !(await isFree(port))) continue;
    given.add(port);
    return port;
  }
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  server.listen(port, '127.0.0.1');
  try {
    await once(server, 'listening');
  } catch {
    return false;
  }
  server.close();
  await once(server, 'close');
  return true;
}

function firstEphemeralPort(): number {
  try {
    return Number(readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'latin1').split(/\s+/)[0]);
  } catch {
    // Not Linux: IANA's range begins here (RFC 6335).
    return 49_152;
  }
}
