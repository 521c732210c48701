/** The benchmark's load says why a run could not be made: without that, a peer that is broken looks like a broken load. */
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { driveLoad, type LoadJob } from '../../bench/load/load.js';
import { freePort } from '../support/ports.js';

const atEnd: (() => unknown)[] = [];
afterEach(() => {
  for (const end of atEnd.splice(0)) end();
});

function jobOf(port: number): LoadJob {
  return {
    origin: `http://127.0.0.1:${port}`,
    connections: 4,
    rate: 0,
    warmupMs: 60_000,
    windowMs: 1000,
    plan: { kind: 'fixed', requests: [{ method: 'GET', path: '/', headers: {} }] },
    bodies: ['ok'],
    bodyContains: '',
    heads: [],
    watch: {},
  };
}

/** Gives every request the same bytes; answers its port. */
async function answering(bytes: string): Promise<number> {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', () => socket.write(bytes));
  });
  atEnd.push(() => server.close());
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return (server.address() as AddressInfo).port;
}

test('nobody listens: the run ends at once and names the address', async () => {
  const port = await freePort();
  await expect(driveLoad('sockets', jobOf(port), -1)).rejects.toThrow(
    /no connection to http:\/\/127\.0\.0\.1:.*REFUSED/,
  );
});

test('answers that nobody can delimit: the run ends at once and shows one', async () => {
  const port = await answering('HTTP/1.1 503 Service Unavailable\r\nTransfer-Encoding: chunked\r\n\r\n');
  await expect(driveLoad('sockets', jobOf(port), -1)).rejects.toThrow(/without status or length: HTTP\/1\.1 503/);
});

test('a fixed rate is measured after a warm-up in a closed loop, as warm as at saturation', async () => {
  const port = await answering('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
  const job = { ...jobOf(port), rate: 20, warmupMs: 500 };
  const { sent, answered, mismatches, window } = await driveLoad('sockets', job, -1);
  expect([answered, mismatches]).toEqual([sent, 0]);
  // At the rate alone there are 50 in all: 10 to warm up, 20 in the second before the window and 20 in it.
  expect(window.requests).toBeGreaterThan(0);
  expect(window.requests).toBeLessThanOrEqual(50);
  expect(sent).toBeGreaterThan(100);
});
