/**
 * Runs every probe against one sidecar and gathers what was seen on both sides.
 *
 * Attribution without touching a probe: each connects from a loopback address of its own (127.0.0.0/8 is all
 * loopback on Linux), which the sidecar passes on in X-Forwarded-For and logs. Probes that try to forge the address
 * run one at a time, so that whatever reaches the upstream meanwhile is theirs.
 */
import type { Redis } from 'ioredis';
import { type RawResult, headersOf, rawExchange } from '../support/raw-client.js';
import type { LogLine } from '../support/sidecar.js';
import { type Probe, type ProbeValues, expandProbe } from './probe-request.js';
import { probes, startProbeTarget } from './probe-target.js';
import type { Observation } from './probe-violations.js';
import { type RecordingUpstream, type UpstreamRecord, startRecordingUpstream } from './recording-upstream.js';

export interface ProbeRun {
  readonly observations: ReadonlyMap<string, Observation>;
  /** Upstream requests that carry no probe's address. */
  readonly unattributed: readonly UpstreamRecord[];
  /** Bytes the upstream got that are no request. */
  readonly strayBytes: number;
  /** Lines of level error and above that the sidecar logged once it listened. */
  readonly errors: readonly LogLine[];
  /** Exit code after SIGTERM. */
  readonly exitCode: number;
}

const concurrency = 80;
/** Time for a second answer or more bytes after the first answer, ms. */
const lingerMs = 400;
const answerTimeoutMs = 15_000;

interface Attempt {
  readonly probe: Probe;
  readonly sent: string;
  readonly address: string;
  readonly result: RawResult;
  readonly alive: boolean;
  /** Upstream requests known to be this probe's because nothing else ran. */
  readonly alone: readonly UpstreamRecord[] | undefined;
}

/** Starts Redis, upstream and sidecar, sends every probe, stops them and answers what was seen. */
export async function runProbes(): Promise<ProbeRun> {
  const upstream = await startRecordingUpstream();
  // A smuggled request shows itself by its query.
  const target = await startProbeTarget(upstream.url, { TOLLKEEPER_LOG_QUERY: 'true' });
  try {
    const { sidecar, values, installation } = target;
    const attempts = await sendAll(sidecar.dataPort, values, upstream, () => sidecar.alive());
    // A clean end writes the log entries that are still in memory.
    const exitCode = await sidecar.stop();
    const logged = await readLogs(installation.redis.client());
    return {
      ...attribute(attempts, values, upstream.records, logged),
      strayBytes: upstream.strayBytes,
      errors: target.errors(),
      exitCode,
    };
  } finally {
    await upstream.stop();
    await target.stop();
  }
}

async function sendAll(
  port: number,
  values: ProbeValues,
  upstream: RecordingUpstream,
  alive: () => boolean,
): Promise<Attempt[]> {
  const forging = probes.filter((probe) => probe.expect.must_not.includes('client-address-spoofed'));
  const others = probes.filter((probe) => !forging.includes(probe));
  const attempts: Attempt[] = [];
  for (const probe of forging) {
    const before = upstream.records.length;
    const attempt = await send(probe, port, values, alive);
    attempts.push({ ...attempt, alone: upstream.records.slice(before) });
  }
  const queue = [...others];
  const worker = async (): Promise<void> => {
    for (let probe = queue.shift(); probe !== undefined; probe = queue.shift()) {
      attempts.push(await send(probe, port, values, alive));
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  return attempts;
}

async function send(probe: Probe, port: number, values: ProbeValues, alive: () => boolean): Promise<Attempt> {
  const sent = expandProbe(probe.raw, values);
  const address = addressOf(probe);
  const options = {
    splitAt: probe.split_at ?? [],
    timeoutMs: answerTimeoutMs,
    lingerMs,
    localAddress: address,
  };
  let result = await rawExchange(port, sent, options);
  for (let time = 1; time < (probe.repeat ?? 1); time++) result = await rawExchange(port, sent, options);
  return { probe, sent, address, result, alive: alive(), alone: undefined };
}

/** 127.77.x.y: one a probe, and none that a probe claims. */
function addressOf(probe: Probe): string {
  const index = probes.indexOf(probe);
  return `127.77.${1 + (index >> 7)}.${1 + (index & 127)}`;
}

async function readLogs(redis: Redis): Promise<Record<string, string>[]> {
  const entries: Record<string, string>[] = [];
  for (const key of await redis.keys('log:*')) {
    for (const [, fields] of await redis.xrange(key, '-', '+')) {
      const entry: Record<string, string> = {};
      for (let at = 0; at < fields.length; at += 2) entry[fields[at] as string] = fields[at + 1] as string;
      entries.push(entry);
    }
  }
  return entries;
}

function attribute(
  attempts: readonly Attempt[],
  values: ProbeValues,
  records: readonly UpstreamRecord[],
  logged: readonly Readonly<Record<string, string>>[],
): Pick<ProbeRun, 'observations' | 'unattributed'> {
  const byAddress = new Map<string, UpstreamRecord[]>();
  const unattributed: UpstreamRecord[] = [];
  const claimed = new Set(attempts.flatMap((attempt) => attempt.alone ?? []));
  const addresses = new Set(attempts.map((attempt) => attempt.address));
  const lastOnConnection = new Map<number, string>();
  for (const record of records) {
    if (claimed.has(record)) continue;
    const claim = headersOf(record.head, 'X-Forwarded-For').at(-1) ?? '';
    // A body taken for a request has no such field: it belongs to whoever used the connection before.
    const address = addresses.has(claim) ? claim : (lastOnConnection.get(record.connection) ?? '');
    lastOnConnection.set(record.connection, address);
    if (address === '') unattributed.push(record);
    else byAddress.set(address, [...(byAddress.get(address) ?? []), record]);
  }
  const observations = new Map<string, Observation>();
  for (const { probe, sent, address, result, alive, alone } of attempts) {
    const requestIds = result.responses.flatMap(({ head }) => headersOf(head, 'X-Request-Id'));
    observations.set(probe.id, {
      probe,
      sent,
      values,
      address,
      result,
      upstream: alone ?? byAddress.get(address) ?? [],
      logged: logged.filter(({ ip, requestId = '' }) => ip === address || requestIds.includes(requestId)),
      alive,
    });
  }
  return { observations, unattributed };
}
