/** Aborts and hostile connections by the thousand, for figures.ts. */
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { WebSocket } from 'undici';
import { residentBytes } from '../support/memory.js';
import { spawnTied } from '../support/process.js';
import { startProxyRig } from '../support/proxy-rig.js';
import type { Sidecar } from '../support/sidecar.js';
import { until } from '../support/until.js';
import { abortingClients } from './aborting-clients.js';
import { startFaultRig } from './fault-rig.js';
import type { Call } from './history.js';
import { type PacedLoad, pacedLoad } from './paced-load.js';

const mib = 2 ** 20;

interface Held {
  readonly descriptors: number;
  readonly residentMiB: number;
  /** What is left after a collection: what is held. */
  readonly heapMiB: number;
  readonly externalMiB: number;
}

/** The debugger's protocol of a process that was started with `--inspect`. */
async function openInspector(sidecar: Sidecar): Promise<{
  ask(method: string, params?: object): Promise<Record<string, unknown>>;
  close(): void;
}> {
  await until(() => sidecar.output().includes('Debugger listening on ws://'));
  const address = /Debugger listening on (ws:\/\/\S+)/.exec(sidecar.output())?.[1] as string;
  const socket = new WebSocket(address);
  await new Promise((resolve) => socket.addEventListener('open', resolve, { once: true }));
  let last = 0;
  const waiting = new Map<number, (result: Record<string, unknown>) => void>();
  socket.addEventListener('message', ({ data }) => {
    const { id, result } = JSON.parse(String(data)) as { id?: number; result?: Record<string, unknown> };
    if (id !== undefined) waiting.get(id)?.(result ?? {});
  });
  return {
    ask: (method, params = {}) =>
      new Promise((resolve) => {
        last += 1;
        waiting.set(last, resolve);
        socket.send(JSON.stringify({ id: last, method, params }));
      }),
    close: () => socket.close(),
  };
}

/**
 * Connections that break off at a random byte of a request or of its answer: what is left of `count` of them, after each
 * of `rounds`. The heap is the default one; what of the resident memory is garbage is told by a collection.
 */
export async function aborts(count: number, rounds: number): Promise<object> {
  const rig = await startProxyRig({
    TOLLKEEPER_AUTH_FAILURE_LIMIT: '0',
    NODE_OPTIONS: '--inspect=127.0.0.1:0',
  });
  try {
    const { sidecar } = rig;
    const { pid } = sidecar;
    const inspector = await openInspector(sidecar);
    const round = abortingClients(rig);
    const descriptors = (): number => readdirSync(`/proc/${pid}/fd`).length;
    const held = async (most: number): Promise<Held> => {
      await until(() => descriptors() <= most).catch(() => {});
      const residentMiB = Math.round(residentBytes(pid) / mib);
      await inspector.ask('HeapProfiler.collectGarbage');
      const expression = 'JSON.stringify(process.memoryUsage())';
      const { result } = (await inspector.ask('Runtime.evaluate', { expression })) as { result: { value: string } };
      const { heapUsed, external } = JSON.parse(result.value) as { heapUsed: number; external: number };
      const toMib = (bytes: number): number => Math.round((bytes / mib) * 10) / 10;
      return { descriptors: descriptors(), residentMiB, heapMiB: toMib(heapUsed), externalMiB: toMib(external) };
    };
    await round(count);
    const before = await held(60);
    const after: Held[] = [];
    for (let time = 0; time < rounds; time += 1) {
      await round(count);
      after.push(await held(before.descriptors));
    }
    inspector.close();
    return { aborts: count, 'before, after as many to warm up': before, 'after each further round': after };
  } finally {
    await rig.stop();
  }
}

function percentile(sorted: readonly number[], share: number): number {
  return Math.round((sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0) * 100) / 100;
}

/**
 * Half of `count` connections drip, half are malformed. What requests of others take before; while another sidecar gets
 * these connections, which costs the machine the same; and while their own sidecar gets them.
 */
export async function hostileConnections(count: number, openedPerSecond: number): Promise<object> {
  const perSecond = 300;
  const rig = await startFaultRig({ sidecars: 2 });
  try {
    const load = (): PacedLoad => pacedLoad(perSecond, 128, () => rig.send());
    const under = async (target: Sidecar): Promise<{ hostile: object; others: object }> => {
      const attack = await startAttack(target, count, openedPerSecond);
      const loud = load();
      const hostile = await attack();
      return { hostile, others: told(await loud.stop()) };
    };
    const [victim, other] = rig.sidecars as [Sidecar, Sidecar];
    await rig.burst(3000, '/files/a', 8);
    const quiet = load();
    await quiet.more(perSecond * 15);
    const before = told(await quiet.stop());
    return {
      'opened a second': openedPerSecond,
      before,
      'at another sidecar': await under(other),
      'at their own': await under(victim),
    };
  } finally {
    await rig.stop();
  }
}

/** Starts the client of hostile connections; the answer begins, and says what there was when all are closed. */
async function startAttack(target: Sidecar, count: number, openedPerSecond: number): Promise<() => Promise<object>> {
  const program = fileURLToPath(new URL('hostile-client.ts', import.meta.url));
  const args = [target.dataPort, count, openedPerSecond].map(String);
  const client = spawnTied(process.execPath, ['--import', 'tsx', program, ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let said = '';
  client.stdout?.on('data', (chunk: Buffer) => {
    said += chunk.toString();
  });
  await until(() => said.includes('ready'));
  const gone = once(client, 'exit');
  return async () => {
    client.stdin?.end('go');
    await gone;
    return JSON.parse(said.replace('ready', '')) as object;
  };
}

function told(calls: readonly Call[]): object {
  const sorted = calls.map(({ tookMs }) => tookMs).sort((one, other) => one - other);
  const outcomes: Record<string, number> = {};
  for (const { status, slug } of calls) {
    const outcome = `${status} ${slug}`.trim();
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
  }
  return { requests: calls.length, outcomes, 'p50, p99 ms': [percentile(sorted, 0.5), percentile(sorted, 0.99)] };
}
