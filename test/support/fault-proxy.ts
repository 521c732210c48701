/**
 * A TCP proxy between a client and a server that can fail like a network: swallow a reply, cut the connection, stop
 * passing bytes. The server has then done what it was asked, and the client does not know.
 */
import { createServer, connect as connectTcp, type AddressInfo, type Socket } from 'node:net';
import { once } from 'node:events';

export interface FaultProxy {
  /** Loopback port to connect to instead of the server's. */
  readonly port: number;
  /** Replies that were swallowed so far. */
  readonly swallowed: number;
  /**
   * For the next `count` times that the server answers: drop the answer and cut the connection. Only answers to
   * requests that contain `marker` count, so that a handshake passes.
   */
  swallowReplies(count: number, marker: string): void;
  stop(): Promise<void>;
}

/** Starts a proxy before a server on a loopback port (`port`) or a unix socket (`path`). */
export async function startFaultProxy(target: { port: number } | { path: string }): Promise<FaultProxy> {
  const sockets = new Set<Socket>();
  let toSwallow = 0;
  let wanted = '';
  let swallowed = 0;

  const server = createServer((downstream) => {
    const upstream = 'path' in target ? connectTcp(target.path) : connectTcp(target.port, '127.0.0.1');
    let armed = false;
    const cut = (): void => {
      downstream.destroy();
      upstream.destroy();
    };
    for (const socket of [downstream, upstream]) {
      sockets.add(socket);
      socket.on('error', cut);
      socket.on('close', () => {
        sockets.delete(socket);
        cut();
      });
    }
    downstream.on('data', (chunk: Buffer) => {
      if (toSwallow > 0 && chunk.includes(wanted)) armed = true;
      upstream.write(chunk);
    });
    upstream.on('data', (chunk: Buffer) => {
      if (!armed || toSwallow === 0) {
        downstream.write(chunk);
        return;
      }
      toSwallow -= 1;
      swallowed += 1;
      cut();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');

  return {
    port: (server.address() as AddressInfo).port,
    get swallowed() {
      return swallowed;
    },
    swallowReplies(count, marker) {
      toSwallow = count;
      wanted = marker;
    },
    async stop() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
