/** Clients that break off, while they send or while they read, at any byte; the same ones in every run. */
import { connect } from 'node:net';
import { randomFrom } from '../fuzz/mutate.js';
import type { ProxyRig } from '../support/proxy-rig.js';

const bytesDown = 20_000;
const bytesUp = 30_000;
const atOnce = 32;

/** Answers what breaks off so many requests to the rig's sidecar, 32 at a time. */
export function abortingClients(rig: ProxyRig): (count: number) => Promise<void> {
  const random = randomFrom(7);
  const answer = `HTTP/1.1 200 OK\r\nContent-Length: ${bytesDown}\r\n\r\n${'x'.repeat(bytesDown)}`;
  const path = rig.script('abort', () => answer);
  const head = [`Content-Length: ${bytesUp}`];
  const request = Buffer.from(rig.request('PUT', path, head, 'y'.repeat(bytesUp)), 'latin1');
  const abort = (): Promise<void> =>
    new Promise((resolve) => {
      const socket = connect({ port: rig.sidecar.dataPort, host: '127.0.0.1' });
      const isWhole = random() < 0.5;
      const bytes = isWhole ? request : request.subarray(0, Math.floor(random() * request.length));
      const readMax = Math.floor(random() * bytesDown);
      let read = 0;
      const end = (): void => {
        if (random() < 0.5) socket.resetAndDestroy();
        else socket.destroy();
      };
      socket.on('error', () => {});
      socket.on('close', () => resolve());
      socket.on('data', (chunk: Buffer) => {
        read += chunk.length;
        if (read >= readMax) end();
      });
      socket.write(bytes, () => {
        if (!isWhole) end();
      });
    });
  return async (count) => {
    let left = count;
    const worker = async (): Promise<void> => {
      while (left-- > 0) await abort();
    };
    await Promise.all(Array.from({ length: atOnce }, worker));
  };
}
