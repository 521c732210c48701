/** Whoever is slow is waited for, as long as something moves: longer than the 10 s after which the HTTP binding closes. */
import type { IncomingMessage } from 'node:http';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { digestOf, digestStream, mib, openPaused, readAnswer, standstill, writePieces } from '../support/large-body.js';
import { watchMemory } from '../support/memory.js';
import { type ProxyRig, startProxyRig } from '../support/proxy-rig.js';
import { openConnection } from '../support/raw-connection.js';
import { until } from '../support/until.js';
import { startStreamingUpstream } from '../support/upstream.js';

const longMs = 16_000;

let rig: ProxyRig;

beforeAll(async () => {
  rig = await startProxyRig();
});

afterAll(() => rig.stop());

/** What its first large bodies make a process keep for good is not growth. The upstream has to echo. */
async function warmUp(port: number): Promise<void> {
  for (let time = 0; time < 4; time++) {
    const { socket, send } = await openPaused(port);
    send(rig.request('PUT', '/files/warm', [`Content-Length: ${16 * mib}`]));
    await Promise.all([readAnswer(socket), writePieces(socket, 16)]);
    socket.destroy();
  }
}

test.concurrent('a client that reads 64 KB a second', async () => {
  const server = await startStreamingUpstream((_, response) => {
    response.setHeader('Content-Length', 48 * mib);
    void writePieces(response, 48).then(() => response.end());
  });
  const patient = await rig.another({ TOLLKEEPER_UPSTREAM: server.url });
  const { socket, send } = await openPaused(patient.dataPort);
  send(rig.request('GET', '/files/slow'));
  let isCut = false;
  socket.on('end', () => {
    isCut = true;
  });
  socket.on('readable', () => {}); // when to read is ours to say
  const timer = setInterval(() => socket.read(Math.min(64 * 1024, socket.readableLength)), 1000);
  const startedAtMs = performance.now();
  await until(() => performance.now() - startedAtMs > longMs || isCut);
  clearInterval(timer);
  expect(isCut).toBe(false);
  socket.removeAllListeners('readable');
  socket.resume();
  await until(() => socket.bytesRead > 48 * mib);
  socket.destroy();
  expect(await patient.stop()).toBe(0);
  await server.stop();
});

test.concurrent('an upstream that reads nothing for 16 s of an upload', async () => {
  let request: IncomingMessage | undefined;
  const server = await startStreamingUpstream((its, response) => {
    request = its;
    its.pause();
    its.on('end', () => response.end('thanks'));
  });
  const patient = await rig.another({ TOLLKEEPER_UPSTREAM: server.url });
  const connection = await openConnection(patient.dataPort);
  connection.send(rig.request('PUT', '/files/stalled', [`Content-Length: ${32 * mib}`]));
  const writing = writePieces(connection.socket, 32);
  const startedAtMs = performance.now();
  await until(() => performance.now() - startedAtMs > longMs || !connection.isOpen);
  expect(connection.isOpen).toBe(true);
  const digest = digestStream(request as IncomingMessage);
  await writing;
  expect((await connection.answer()).body.toString()).toBe('thanks');
  expect(await digest).toBe(digestOf(32));
  connection.close();
  expect(await patient.stop()).toBe(0);
  await server.stop();
});

test.concurrent.each([true, false])(
  'an upstream that falls silent amid an answer (announced length: %s)',
  async (announced) => {
    const server = await startStreamingUpstream((_, response) => {
      if (announced) response.setHeader('Content-Length', 64 * mib);
      void writePieces(response, 32);
    });
    const patient = await rig.another({ TOLLKEEPER_UPSTREAM: server.url });
    const { socket, send } = await openPaused(patient.dataPort);
    send(rig.request('GET', '/files/silent'));
    await standstill(() => socket.bytesRead);
    const startedAtMs = performance.now();
    socket.resume();
    // All that it has said arrives, though nothing follows that would push it.
    await until(() => socket.bytesRead > 32 * mib);
    // And the silence is no reason to close, for as long as the upstream may be silent.
    await until(() => performance.now() - startedAtMs > longMs || socket.destroyed);
    expect(socket.destroyed).toBe(false);
    socket.destroy();
    expect(await patient.stop()).toBe(0);
    await server.stop();
  },
  60_000,
);

test.concurrent('an upstream that answers after 12 s: the connection idles no longer than its client wants', async () => {
  const path = rig.script('late', (_, socket) => {
    setTimeout(() => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate'), 12_000);
    return undefined;
  });
  const answers = await Promise.all([
    rig.exchange('GET', path, { timeoutMs: 40_000 }),
    rig.exchange('POST', path, { lines: ['Content-Length: 0'], timeoutMs: 40_000 }),
    rig.exchange('HEAD', path, { timeoutMs: 40_000 }),
  ]);
  expect(answers.map(({ status }) => status)).toEqual([200, 200, 200]);
});

// An answer of announced length is cut here: the binding's idle timeout strikes while the upload is paused (README, Limits).
test.concurrent('both sides of an echo that do not read', async () => {
  const server = await startStreamingUpstream((request, response) => {
    request.pipe(response);
  });
  const patient = await rig.another({ TOLLKEEPER_UPSTREAM: server.url });
  await warmUp(patient.dataPort);
  const before = watchMemory(patient.pid).stop();
  const memory = watchMemory(patient.pid);
  const { socket, send } = await openPaused(patient.dataPort);
  send(rig.request('PUT', '/files/echo', [`Content-Length: ${48 * mib}`]));
  const writing = writePieces(socket, 48);
  const startedAtMs = performance.now();
  await until(() => performance.now() - startedAtMs > longMs || socket.destroyed);
  expect(socket.destroyed).toBe(false);
  const [{ digest }] = await Promise.all([readAnswer(socket), writing]);
  expect(digest).toBe(digestOf(48));
  expect(memory.stop() - before).toBeLessThan(64 * mib);
  socket.destroy();
  expect(await patient.stop()).toBe(0);
  await server.stop();
});
