/** A client's connection that stays open: several exchanges on it, bytes sent at will, reads that can be held back. */
import { once } from 'node:events';
import { type Socket, connect } from 'node:net';
import { type ConnectionOptions, connect as connectTls } from 'node:tls';
import { type RawResponse, parseResponses } from './raw-client.js';

export interface RawConnection {
  readonly socket: Socket;
  /** Sends bytes (a string is Latin-1). */
  send(bytes: Buffer | string): void;
  /** The next final answer, interim ones skipped; rejects when the connection ends before it is whole. */
  answer(method?: string): Promise<RawResponse>;
  /** Resolves when `fits` is true of the bytes that no answer has taken yet; rejects when the connection ends before. */
  bytes(fits: (unread: Buffer) => boolean): Promise<Buffer>;
  /** Resolves when the server has ended the connection, with the bytes that no answer has taken. */
  ended(): Promise<Buffer>;
  readonly isOpen: boolean;
  close(): void;
}

/** Connects to a loopback port, with TLS when options for it are given, from `localAddress` when one is. */
export async function openConnection(
  port: number,
  tls?: ConnectionOptions,
  localAddress?: string,
): Promise<RawConnection> {
  const from = localAddress === undefined ? {} : { localAddress };
  const socket =
    tls === undefined
      ? connect({ port, host: '127.0.0.1', noDelay: true, ...from })
      : connectTls({ port, host: '127.0.0.1', ...tls });
  await once(socket, tls === undefined ? 'connect' : 'secureConnect');
  let unread: Buffer = Buffer.alloc(0);
  let isOpen = true;
  const waiting = new Set<() => void>();
  const wake = (): void => {
    for (const check of waiting) check();
  };
  socket.on('error', () => {}); // 'close' follows
  socket.on('data', (chunk: Buffer) => {
    unread = Buffer.concat([unread, chunk]);
    wake();
  });
  const end = (): void => {
    isOpen = false;
    wake();
  };
  socket.on('end', end);
  socket.on('close', end);

  const when = <T>(take: () => T | undefined): Promise<T> =>
    new Promise((resolve, reject) => {
      const check = (): void => {
        const taken = take();
        if (taken === undefined && isOpen) return;
        waiting.delete(check);
        if (taken !== undefined) resolve(taken);
        else reject(new Error(`the connection ended after ${JSON.stringify(unread.toString('latin1', 0, 500))}`));
      };
      waiting.add(check);
      check();
    });

  return {
    socket,
    send: (bytes) => void socket.write(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes),
    answer: (method = 'GET') =>
      when(() => {
        const { responses } = parseResponses(unread, method, !isOpen);
        const at = responses.findIndex(({ status }) => status >= 200);
        if (at < 0) return undefined;
        const { rest } = parseResponses(unread, method, !isOpen, at + 1);
        unread = rest;
        return responses[at];
      }),
    bytes: (fits) => when(() => (fits(unread) ? unread : undefined)),
    ended: () => when(() => (isOpen ? undefined : unread)),
    get isOpen() {
      return isOpen;
    },
    close: () => void socket.destroy(),
  };
}
