/**
 * CPU of the client to the upstream, a request: our own against undici's `Pool.dispatch`, with the same requests to the
 * same uWebSockets.js server in another process, 64 under way. Repetitions take turns, medians are printed:
 * `npx tsx bench/micro/upstream.ts [repetitions] [requests a repetition]`.
 */
import { type Dispatcher, Pool } from 'undici';
import type { Denial } from '../../src/core/problems.js';
import type { ResponseHead } from '../../src/http/response-head.js';
import { parseUpstreamAddress, type UpstreamAddress } from '../../src/config/formats.js';
import type { UpstreamSink } from '../../src/upstream/call.js';
import { Upstream } from '../../src/upstream/upstream.js';
import { scriptArgs, startNode } from '../harness/node-child.js';

const repetitions = Number(process.argv[2] ?? 9);
const requestsEach = Number(process.argv[3] ?? 40_000);
const underWay = 64;

const target = '/api/v1/products/1234?fields=name,price';
const host = 'shop.example.com';
const fields = {
  accept: 'application/json',
  'user-agent': 'bench/1.0',
  'accept-encoding': 'gzip, deflate, br',
  'x-request-id': '0123456789abcdef0123456789abcdef',
  'x-forwarded-for': '203.0.113.7',
  'x-forwarded-proto': 'https',
  'x-forwarded-host': host,
  'x-tollkeeper-token-id': 'a1B2c3D4e5F6',
  'x-tollkeeper-tenant': 'acme',
  'x-tollkeeper-scopes': 'products:read products:write orders:read',
};

/** Sends one request and tells when its answer is complete and right. */
type Client = (done: () => void) => void;

function fail(what: string): never {
  throw new Error(`wrong answer: ${what}`);
}

class OwnSink implements UpstreamSink {
  readonly #done: () => void;

  constructor(done: () => void) {
    this.#done = done;
  }

  upstreamAnswer(answer: ResponseHead, body: Buffer): void {
    if (answer.status !== 200 || body.length !== answer.length) fail(String(answer.status));
    this.#done();
  }

  upstreamHead(): void {
    fail('in pieces');
  }

  upstreamChunk(): boolean {
    return fail('in pieces');
  }

  upstreamEnd(): void {
    fail('in pieces');
  }

  upstreamFailed(denial: Denial): void {
    fail(denial.detail);
  }
}

function ownClient(upstream: Upstream): Client {
  const lines = Object.entries(fields);
  return (done) => {
    // As the data plane does it: the text is put together for each request.
    let head = `GET ${target} HTTP/1.1\r\nhost: ${host}\r\n`;
    for (const [name, value] of lines) head += `${name}: ${value}\r\n`;
    const request = { head: `${head}\r\n`, toHead: false, body: null, bodyLength: 0, replayable: true };
    upstream.send(request, new OwnSink(done));
  };
}

class UndiciHandler implements Dispatcher.DispatchHandler {
  readonly #done: () => void;
  #length = 0;

  constructor(done: () => void) {
    this.#done = done;
  }

  onConnect(): void {}

  onHeaders(status: number): boolean {
    return status === 200 || fail(String(status));
  }

  onData(chunk: Buffer): boolean {
    this.#length += chunk.length;
    return true;
  }

  onComplete(): void {
    if (this.#length === 0) fail('no body');
    this.#done();
  }

  onError(error: Error): void {
    fail(error.message);
  }
}

function undiciClient(pool: Pool): Client {
  const lines = Object.entries({ host, ...fields });
  return (done) => {
    const headers: string[] = [];
    for (const [name, value] of lines) headers.push(name, value);
    pool.dispatch({ method: 'GET', path: target, headers, body: null, blocking: false }, new UndiciHandler(done));
  };
}

/** CPU microseconds a request. */
async function measure(client: Client, requests: number): Promise<number> {
  const before = process.cpuUsage();
  await new Promise<void>((resolve) => {
    let toSend = requests;
    let toCome = requests;
    const next = (): void => {
      if (--toCome === 0) resolve();
      if (toSend-- > 0) client(next);
    };
    for (let count = 0; count < underWay; count++) {
      toSend--;
      client(next);
    }
  });
  const { user, system } = process.cpuUsage(before);
  return (user + system) / requests;
}

function median(values: readonly number[]): number {
  return [...values].sort((one, other) => one - other)[Math.floor(values.length / 2)] as number;
}

const server = await startNode(scriptArgs(new URL('../harness/answering-server.ts', import.meta.url), 'upstream'), {
  core: 1,
  planes: ['data'],
});
const origin = server.origin('data');
const upstream = new Upstream({
  addresses: [parseUpstreamAddress(origin) as UpstreamAddress],
  tls: {},
  connectTimeoutMs: 2000,
  headTimeoutMs: 30_000,
  idleTimeoutMs: 60_000,
  keepAliveMs: 4000,
  maxAgeMs: 300_000,
  connectionsMax: 256,
  health: { ejectAfter: 3, ejectMs: 10_000, path: undefined, intervalMs: 2000, timeoutMs: 1000, successes: 2 },
  whenEjected: () => {},
});
const pool = new Pool(origin, {
  connections: 256,
  pipelining: 1,
  headersTimeout: 30_000,
  bodyTimeout: 60_000,
  keepAliveTimeout: 4000,
  maxHeaderSize: 64 * 1024,
});
const clients = { undici: undiciClient(pool), own: ownClient(upstream) };

for (const client of Object.values(clients)) await measure(client, requestsEach);
const figures = { undici: [] as number[], own: [] as number[] };
for (let repetition = 0; repetition < repetitions; repetition++) {
  for (const name of ['undici', 'own'] as const) figures[name].push(await measure(clients[name], requestsEach));
}
for (const [name, values] of Object.entries(figures)) {
  const spread = `${Math.min(...values).toFixed(1)} to ${Math.max(...values).toFixed(1)}`;
  console.log(`${name.padEnd(8)} ${median(values).toFixed(1).padStart(6)} us a request (${spread})`);
}
console.log(`own / undici: ${(median(figures.own) / median(figures.undici)).toFixed(2)}`);

upstream.close();
await pool.destroy();
await server.stop();
