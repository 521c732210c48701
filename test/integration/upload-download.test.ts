/**
 * Large bodies in both directions: byte for byte, at the pace of the slower side, in bounded memory.
 *
 * TOLLKEEPER_TEST_STREAM_MIB sets the size of the large ones (64); with 1024 the memory bounds are those of the
 * documentation, measured.
 */
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { digestOf, digestStream, mib, openPaused, readAnswer, standstill, writePieces } from '../support/large-body.js';
import { watchMemory } from '../support/memory.js';
import { type ProxyRig, startProxyRig } from '../support/proxy-rig.js';
import { headerOf } from '../support/raw-client.js';
import { openConnection } from '../support/raw-connection.js';
import type { Sidecar } from '../support/sidecar.js';
import { until } from '../support/until.js';
import { type Upstream, startStreamingUpstream } from '../support/upstream.js';

const largeMib = Number(process.env.TOLLKEEPER_TEST_STREAM_MIB ?? 64);
/** Growth of resident memory that any of these may cause. */
const growthMax = 64 * mib;
const onLinux = process.platform === 'linux';

let rig: ProxyRig;
let upstream: Upstream;
let sidecar: Sidecar;
let handler: (request: IncomingMessage, response: ServerResponse) => void;

beforeAll(async () => {
  rig = await startProxyRig();
  upstream = await startStreamingUpstream((request, response) => handler(request, response));
  sidecar = await rig.another({ TOLLKEEPER_UPSTREAM: upstream.url, TOLLKEEPER_TRUSTED_PROXIES: '127.0.0.1' });
  handler = (request, response) => {
    request.pipe(response);
  };
  await warmUp();
});

afterAll(async () => {
  await rig.stop();
  await upstream.stop();
});

/** What its first large bodies make a process keep for good is not growth. The upstream has to echo. */
async function warmUp(): Promise<void> {
  for (let time = 0; time < 4; time++) {
    const { socket, send } = await openPaused(sidecar.dataPort);
    send(rig.request('PUT', '/files/warm', [`Content-Length: ${16 * mib}`]));
    await Promise.all([readAnswer(socket), writePieces(socket, 16)]);
    socket.destroy();
  }
}

/** Runs `work` and answers by how many bytes the sidecar's memory grew at most. */
async function growthDuring(name: string, work: () => Promise<void>): Promise<number> {
  const before = watchMemory(sidecar.pid).stop();
  const memory = watchMemory(sidecar.pid);
  await work();
  const growth = memory.stop() - before;
  if (process.env.TOLLKEEPER_TEST_STREAM_MIB !== undefined) {
    process.stdout.write(`${name}: RSS ${Math.round(before / mib)} MiB + ${Math.round(growth / mib)} MiB\n`);
  }
  return growth;
}

describe.runIf(onLinux)('a large body', () => {
  test.each([true, false])(
    'down (announced length: %s) arrives whole, in bounded memory',
    async (announced) => {
      handler = (_, response) => {
        if (announced) response.setHeader('Content-Length', largeMib * mib);
        void writePieces(response, largeMib).then(() => response.end());
      };
      const growth = await growthDuring(`${largeMib} MiB down, length ${announced}`, async () => {
        const { socket, ...connection } = await openPaused(sidecar.dataPort);
        connection.send(rig.request('GET', '/files/large'));
        const { head, digest } = await readAnswer(socket);
        expect(headerOf(head, 'Content-Length')).toBe(announced ? String(largeMib * mib) : undefined);
        expect(digest).toBe(digestOf(largeMib));
        socket.destroy();
      });
      expect(growth).toBeLessThan(growthMax);
    },
    120_000,
  );

  test.each([true, false])(
    'up (announced length: %s) arrives whole, in bounded memory',
    async (announced) => {
      let arrived = '';
      handler = (request, response) => {
        void digestStream(request).then((digest) => {
          arrived = digest;
          response.end('thanks');
        });
      };
      const growth = await growthDuring(`${largeMib} MiB up, length ${announced}`, async () => {
        const connection = await openConnection(sidecar.dataPort);
        const framing = announced ? `Content-Length: ${largeMib * mib}` : 'Transfer-Encoding: chunked';
        connection.send(rig.request('PUT', '/files/large', [framing]));
        await writePieces(connection.socket, largeMib, announced ? undefined : inChunk);
        if (!announced) connection.send('0\r\n\r\n');
        expect((await connection.answer()).body.toString()).toBe('thanks');
        expect(arrived).toBe(digestOf(largeMib));
        connection.close();
      });
      expect(growth).toBeLessThan(growthMax);
    },
    120_000,
  );

  test('both ways at once (an echo) comes back whole, in bounded memory', async () => {
    handler = (request, response) => {
      request.pipe(response);
    };
    const growth = await growthDuring(`${largeMib} MiB echo`, async () => {
      const { socket, ...connection } = await openPaused(sidecar.dataPort);
      connection.send(rig.request('PUT', '/files/echo', [`Content-Length: ${largeMib * mib}`]));
      const [{ digest }] = await Promise.all([readAnswer(socket), writePieces(socket, largeMib)]);
      expect(digest).toBe(digestOf(largeMib));
      socket.destroy();
    });
    expect(growth).toBeLessThan(growthMax);
  });
});

function inChunk(bytes: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from('\r\n')]);
}

describe.runIf(onLinux)('the slower side sets the pace:', () => {
  test.each([true, false])(
    'a client that does not read pauses the upstream (announced length: %s)',
    async (announced) => {
      const downMib = 48;
      const readers = 6;
      const answers: { socket: Socket; before: number }[] = [];
      handler = (_, response) => {
        if (response.socket !== null) answers.push({ socket: response.socket, before: response.socket.bytesWritten });
        if (announced) response.setHeader('Content-Length', downMib * mib);
        void writePieces(response, downMib).then(() => response.end());
      };
      const growth = await growthDuring(`${readers} slow readers of ${downMib} MiB`, async () => {
        const connections = await Promise.all(Array.from({ length: readers }, () => openPaused(sidecar.dataPort)));
        for (const { send } of connections) send(rig.request('GET', '/files/slow'));
        await until(() => answers.length === readers);
        const sent = await standstill(() =>
          answers.reduce((sum, { socket, before }) => sum + socket.bytesWritten - before, 0),
        );
        // What is on its way is in the buffers of the kernel (4 MiB to 6 MiB each), not in the sidecar.
        expect(sent).toBeLessThan(readers * 24 * mib);
        const downloads = await Promise.all(connections.map(({ socket }) => readAnswer(socket)));
        expect(new Set(downloads.map(({ digest }) => digest))).toEqual(new Set([digestOf(downMib)]));
        for (const { socket } of connections) socket.destroy();
      });
      expect(growth).toBeLessThan(growthMax);
    },
    60_000,
  );

  test('an upstream that does not read pauses the client', async () => {
    const upMib = 48;
    const uploads = 6;
    const requests: IncomingMessage[] = [];
    const digests: Promise<string>[] = [];
    handler = (request, response) => {
      requests.push(request);
      request.pause();
      request.on('end', () => response.end('thanks'));
    };
    const growth = await growthDuring(`${uploads} uploads of ${upMib} MiB to a stalled upstream`, async () => {
      const connections = await Promise.all(Array.from({ length: uploads }, () => openConnection(sidecar.dataPort)));
      const writing = connections.map(({ socket, send }) => {
        send(rig.request('PUT', '/files/stalled', [`Content-Length: ${upMib * mib}`]));
        return writePieces(socket, upMib);
      });
      await until(() => requests.length === uploads);
      const sent = await standstill(() =>
        connections.reduce((sum, { socket }) => sum + socket.bytesWritten - socket.writableLength, 0),
      );
      expect(sent).toBeLessThan(uploads * 36 * mib);
      for (const request of requests) digests.push(digestStream(request));
      await Promise.all(writing);
      for (const connection of connections) {
        expect((await connection.answer()).body.toString()).toBe('thanks');
        connection.close();
      }
      expect(new Set(await Promise.all(digests))).toEqual(new Set([digestOf(upMib)]));
    });
    // What was read of each before its pause took effect (see byte-queue.ts).
    expect(growth).toBeLessThan(uploads * 24 * mib);
  });
});

describe('an upload', () => {
  test('may take longer than the upstream has for its answer, as long as it moves', async () => {
    const timeoutMs = 2000;
    const patient = await rig.another({
      TOLLKEEPER_UPSTREAM: upstream.url,
      TOLLKEEPER_UPSTREAM_TIMEOUT_MS: String(timeoutMs),
    });
    let bytes = 0;
    handler = (request, response) => {
      const read = async (): Promise<void> => {
        let rest = mib;
        for await (const piece of request as AsyncIterable<Buffer>) {
          bytes += piece.length;
          rest -= piece.length;
          if (rest > 0) continue;
          rest = mib;
          await delay(100);
        }
        response.end('thanks');
      };
      void read();
    };
    const connection = await openConnection(patient.dataPort);
    const startedAtMs = performance.now();
    connection.send(rig.request('PUT', '/files/slow', [`Content-Length: ${48 * mib}`]));
    await writePieces(connection.socket, 48);
    const answer = await connection.answer();
    expect([answer.status, bytes]).toEqual([200, 48 * mib]);
    expect(performance.now() - startedAtMs).toBeGreaterThan(2 * timeoutMs);
    connection.close();
    expect(await patient.stop()).toBe(0);
  });

  test('to an upstream that never reads is 504 within the timeout', async () => {
    const impatient = await rig.another({
      TOLLKEEPER_UPSTREAM: upstream.url,
      TOLLKEEPER_UPSTREAM_TIMEOUT_MS: '1000',
    });
    handler = (request) => {
      request.pause();
      request.on('error', () => {});
    };
    const connection = await openConnection(impatient.dataPort);
    connection.send(rig.request('PUT', '/files/never', [`Content-Length: ${256 * mib}`]));
    const writing = writePieces(connection.socket, 256).catch(() => {});
    // A client that is still sending may meet the reset before it has read the answer; the verdict is the same.
    const answer = await connection.answer().catch(() => undefined);
    if (answer !== undefined && answer.status !== 0) expect(answer.status).toBe(504);
    connection.close();
    await Promise.race([writing, once(connection.socket, 'close')]);
    const counted = /tollkeeper_requests_total\{outcome="upstream-timeout",method="PUT",status_class="5xx"\} 1/;
    await until(async () => counted.test(await (await fetch(`${impatient.adminUrl}/metrics`)).text()));
    expect(await impatient.stop()).toBe(0);
  });
});
