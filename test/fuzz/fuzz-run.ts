/** Sends mutated probes to one sidecar until a number or a time is reached, and says what went wrong. */
import { connect } from 'node:net';
import { expandProbe } from '../conformance/probe-request.js';
import { probeScopes, probes, probeTenant, startProbeTarget } from '../conformance/probe-target.js';
import { residentBytes } from '../support/memory.js';
import { type JudgingUpstream, startJudgingUpstream } from './judging-upstream.js';
import { mutate, randomFrom, splitPoint } from './mutate.js';

export interface FuzzOptions {
  readonly seed: number;
  /** Ends after so many requests, or so many seconds. */
  readonly requestsMax: number;
  readonly secondsMax: number;
  /** Told now and then. */
  readonly progress?: (sent: number) => void;
}

export interface FuzzResult {
  readonly seed: number;
  readonly sent: number;
  readonly seconds: number;
  /** Answers by status; 0: closed or silent. */
  readonly statuses: Readonly<Record<number, number>>;
  readonly reachedUpstream: number;
  readonly violations: readonly string[];
  readonly alive: boolean;
  readonly exitCode: number;
  /** Lines of level error and above that the sidecar logged. */
  readonly errors: readonly unknown[];
  /** Resident memory after the first tenth, and at the end, bytes. */
  readonly residentBefore: number;
  readonly residentAfter: number;
}

const senders = 192;
/** What is not answered by then hangs until the idle timeout of the binding: it is given up, ms. */
const patienceMs = 120;
/** Much of what is sent fails to authenticate; none of it may hide behind a limit. */
const unlimited = { TOLLKEEPER_AUTH_FAILURE_LIMIT: '0' };

/** Starts Redis, upstream and sidecar, and stops them. */
export async function runFuzz(options: FuzzOptions): Promise<FuzzResult> {
  let tokenIds: string[] = [];
  const upstream = await startJudgingUpstream(() => ({ tokenIds, tenant: probeTenant, scopes: probeScopes }));
  const target = await startProbeTarget(upstream.url, unlimited);
  try {
    const { sidecar, values } = target;
    tokenIds = [values.tokenId, values.hmacId];
    // The probes that fit into one write, as they are sent.
    const corpus = probes.map(({ raw }) => expandProbe(raw, values)).filter(({ length }) => length < 16 * 1024);
    const sent = await sendAll(options, corpus, sidecar.dataPort, upstream, {
      alive: () => sidecar.alive(),
      resident: () => residentBytes(sidecar.pid),
    });
    const alive = sidecar.alive();
    const residentAfter = alive ? residentBytes(sidecar.pid) : 0;
    const exitCode = await sidecar.stop();
    return { seed: options.seed, ...sent, alive, exitCode, errors: target.errors(), residentAfter };
  } finally {
    await target.stop();
    await upstream.stop();
  }
}

async function sendAll(
  { seed, requestsMax, secondsMax, progress }: FuzzOptions,
  corpus: readonly string[],
  port: number,
  upstream: JudgingUpstream,
  process: { readonly alive: () => boolean; readonly resident: () => number },
): Promise<Pick<FuzzResult, 'sent' | 'seconds' | 'statuses' | 'reachedUpstream' | 'violations' | 'residentBefore'>> {
  const random = randomFrom(seed);
  const statuses: Record<number, number> = {};
  const startedAtMs = performance.now();
  const seconds = (): number => (performance.now() - startedAtMs) / 1000;
  let sent = 0;
  let residentBefore = 0;
  const isWarm = (): boolean => sent >= requestsMax / 10 || seconds() >= secondsMax / 10;
  const pick = (): string => corpus[Math.floor(random() * corpus.length)] as string;
  const sender = async (number: number): Promise<void> => {
    while (sent < requestsMax && seconds() < secondsMax && process.alive()) {
      sent += 1;
      if (sent % 50_000 === 0) progress?.(sent);
      if (residentBefore === 0 && isWarm()) residentBefore = process.resident();
      const bytes = mutate(pick(), pick(), random);
      const status = await exchange(port, bytes, splitPoint(bytes, random), number);
      statuses[status] = (statuses[status] ?? 0) + 1;
    }
  };
  await Promise.all(Array.from({ length: senders }, (_, number) => sender(number)));
  const { requests: reachedUpstream, violations } = upstream;
  return { sent, seconds: seconds(), statuses, reachedUpstream, violations, residentBefore };
}

/** Sends the bytes on a connection of their own; answers the status of what came first, 0 for none. */
function exchange(port: number, bytes: string, splitAt: number, sender: number): Promise<number> {
  return new Promise((resolve) => {
    // Addresses of their own keep the ports from running out.
    const localAddress = `127.78.${1 + (sender >> 6)}.${1 + (sender & 63)}`;
    const socket = connect({ port, host: '127.0.0.1', localAddress, noDelay: true });
    let status = 0;
    const finish = (): void => {
      clearTimeout(timer);
      socket.destroy();
    };
    const timer = setTimeout(finish, patienceMs);
    socket.on('error', () => {});
    socket.on('close', () => {
      clearTimeout(timer);
      resolve(status);
    });
    socket.on('data', (chunk: Buffer) => {
      const found = Number(/^HTTP\/1\.1 (\d{3})/.exec(chunk.toString('latin1', 0, 16))?.[1] ?? 0);
      if (found === 100) return;
      status = found;
      finish();
    });
    socket.on('connect', () => {
      if (splitAt === 0) {
        socket.write(bytes, 'latin1');
        return;
      }
      socket.write(bytes.slice(0, splitAt), 'latin1');
      setTimeout(() => socket.writable && socket.write(bytes.slice(splitAt), 'latin1'), 5);
    });
  });
}
