/** Memory outside the heap: what the binding has of the system for a connection goes back when it ends. */
import { connect } from 'node:net';
import { expect, test } from 'vitest';
import { startInstallation } from '../support/installation.js';
import { inspectorsIn, openInspector } from '../support/inspector.js';
import { anonymousBytes } from '../support/memory.js';

const callers = 64;
/** One that is not given back holds some 400 bytes; what else a process is still growing by spreads over all of them. */
const growthMaxBytesEach = 250;

/** Refused at once, and the connection with it. */
const refused = 'GET /%2e HTTP/1.1\r\nHost: x\r\n\r\n';

/** Sends `count` requests on connections of their own, and waits for the end of each. */
async function refuseAll(port: number, count: number): Promise<void> {
  let left = count;
  const refuse = (caller: number): Promise<void> =>
    new Promise((resolve) => {
      const socket = connect({ port, host: '127.0.0.1', localAddress: `127.80.1.${1 + caller}` });
      socket.on('error', () => {});
      socket.on('close', () => resolve());
      socket.on('data', () => {});
      socket.write(refused);
    });
  const caller = async (number: number): Promise<void> => {
    while (left-- > 0) await refuse(number);
  };
  await Promise.all(Array.from({ length: callers }, (_, number) => caller(number)));
}

test('the memory of a connection is given back when a refusal that is decided at once ends it', async () => {
  const installation = await startInstallation();
  try {
    await installation.tenant('acme');
    const sidecar = await installation.sidecar({ env: { NODE_OPTIONS: '--inspect=127.0.0.1:0' } });
    const inspector = await openInspector(inspectorsIn(sidecar.output())[0] ?? '');
    const heldOutsideHeap = async (): Promise<number> => {
      const { totalBytes } = await inspector.collectGarbage();
      return anonymousBytes(sidecar.pid) - totalBytes;
    };
    await refuseAll(sidecar.dataPort, 10_000);
    const before = await heldOutsideHeap();
    const count = 20_000;
    await refuseAll(sidecar.dataPort, count);
    expect(((await heldOutsideHeap()) - before) / count).toBeLessThan(growthMaxBytesEach);
    inspector.close();
  } finally {
    await installation.stop();
  }
});
