/** Clocks that are wrong or jump, for figures.ts (the long form) and clocks.test.ts (the short one). */
import { existsSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { signRequest } from '../../src/sign/sign.js';
import { until } from '../support/until.js';
import { defaultWorkers } from '../support/workers.js';
import { startFaultRig } from './fault-rig.js';
import type { Call } from './history.js';
import { direct, type LoadShape } from './lifecycle-figures.js';
import { pacedLoad } from './paced-load.js';

const patient = { ...defaultWorkers, TOLLKEEPER_REDIS_COMMAND_TIMEOUT_MS: '20000' };
const atOnceMax = 64;

/** libfaketime, to be preloaded into a process. */
function faketime(): string {
  const folders = existsSync('/usr/lib') ? readdirSync('/usr/lib') : [];
  const library = folders
    .map((name) => join('/usr/lib', name, 'faketime/libfaketime.so.1'))
    .find((path) => existsSync(path));
  if (library === undefined) throw new Error('libfaketime is not installed: run node scripts/setup.mjs --test as root');
  return library;
}

/** The same for a program with an allocator that asks for the time: it gets glibc's instead. */
function faketimeAndMalloc(): string {
  const library = faketime();
  return `/lib/${library.split('/').at(-3)}/libc_malloc_debug.so.0:${library}`;
}

const ages = [
  { ageS: 0, expected: 'ok' },
  { ageS: 280, expected: 'ok' },
  { ageS: 320, expected: 'stale-timestamp' },
  { ageS: -320, expected: 'stale-timestamp' },
] as const;

export interface SkewFigure {
  readonly requests: number;
  readonly 'requests/s': number;
  /** Of Bearer tokens, by outcome. */
  readonly bearer: Readonly<Record<string, number>>;
  readonly signatures: number;
  readonly 'signatures judged wrongly': number;
}

/** Sidecars whose clocks are wrong by -301 and +301 s, beside one that is right: each signature by the clock of Redis. */
export async function clockSkew({ requests, perSecond }: LoadShape): Promise<SkewFigure> {
  const rig = await startFaultRig({ carry: direct, env: patient });
  try {
    const signer = await rig.installation.token('acme', '--scopes', 'files', '--mode', 'hmac', '--limit', '1000000');
    const library = faketime();
    for (const offset of ['-301s', '+301s']) {
      await rig.another({ LD_PRELOAD: library, FAKETIME: offset, FAKETIME_DONT_FAKE_MONOTONIC: '1' });
    }
    let judged = 0;
    let wrong = 0;
    const sendSigned = async (number: number, sidecar: number): Promise<Call> => {
      const { ageS, expected } = ages[Math.floor(number / 4) % ages.length] as (typeof ages)[number];
      const timestamp = Math.floor(Date.now() / 1000) - ageS;
      const { headers } = signRequest({ secret: signer.secret, method: 'GET', url: '/files/a', timestamp });
      const call = await rig.history.call(rig.pool(sidecar), '/files/a', { headers });
      judged += 1;
      if ((call.status === 200 ? 'ok' : call.slug) !== expected) wrong += 1;
      return call;
    };
    const bearer: Record<string, number> = {};
    const send = async (number: number): Promise<Call> => {
      const sidecar = number % rig.sidecars.length;
      if (number % 4 === 0) return sendSigned(number, sidecar);
      const call = await rig.send('/files/a', {}, sidecar);
      const outcome = `${call.status} ${call.slug}`.trim();
      bearer[outcome] = (bearer[outcome] ?? 0) + 1;
      return call;
    };
    const load = pacedLoad(perSecond, atOnceMax, send);
    await load.more(requests);
    const sent = (await load.stop()).length;
    await rig.check();
    return {
      requests: sent,
      'requests/s': load.rate(),
      bearer,
      signatures: judged,
      'signatures judged wrongly': wrong,
    };
  } finally {
    await rig.stop();
  }
}

export interface JumpFigure {
  readonly requests: number;
  readonly 'requests/s': number;
  readonly limit: number;
  readonly windowS: number;
  readonly jumps: readonly string[];
  /** Admitted in any stretch of real time as long as the window. */
  readonly 'most admitted in a window': number;
  readonly outcomes: readonly string[];
  /** From each jump to the next request that was admitted, ms. */
  readonly 'admitted again after, ms': readonly number[];
}

/** The clock of Redis jumps by an hour, back and forth, while far more is asked for than the limit allows. */
export async function clockJumps(
  perSecond: number,
  limit: number,
  windowS: number,
  jumps: readonly string[],
): Promise<JumpFigure> {
  const folder = mkdtempSync(join(tmpdir(), 'tk-clock-'));
  const clock = join(folder, 'clock');
  const setClock = (offset: string): void => {
    // In one step: half a file would be a time of its own.
    writeFileSync(`${clock}.next`, `${offset}\n`);
    renameSync(`${clock}.next`, clock);
  };
  setClock('+0');
  const rig = await startFaultRig({
    carry: direct,
    env: patient,
    token: ['--limit', String(limit), '--window', String(windowS)],
    redis: {
      env: {
        LD_PRELOAD: faketimeAndMalloc(),
        FAKETIME_TIMESTAMP_FILE: clock,
        FAKETIME_NO_CACHE: '1',
        FAKETIME_DONT_FAKE_MONOTONIC: '1',
      },
    },
  });
  try {
    const client = rig.installation.redis.client();
    const apartS = async (): Promise<number> => Number((await client.time())[0]) - Date.now() / 1000;
    const load = pacedLoad(perSecond, atOnceMax, () => rig.send());
    const againMs: number[] = [];
    await load.more(perSecond * windowS * 1.4);
    for (const offset of jumps) {
      setClock(offset);
      const wantedS = Number.parseInt(offset, 10);
      await until(async () => Math.abs((await apartS()) - wantedS) < 60);
      const jumpedAtMs = performance.now();
      const admitted = (): Call | undefined =>
        load.calls.findLast(({ status, startedAtMs }) => status === 200 && startedAtMs > jumpedAtMs);
      // It goes on within a window of real time, and the one before that may count in whole.
      await until(() => admitted() !== undefined, windowS * 3000);
      againMs.push(Math.round((admitted()?.startedAtMs ?? 0) - jumpedAtMs));
      // The next one in the middle of a window.
      await load.more(perSecond * windowS * 1.4);
    }
    const calls = await load.stop();
    client.disconnect();
    await rig.check();
    return {
      requests: calls.length,
      'requests/s': load.rate(),
      limit,
      windowS,
      jumps,
      'most admitted in a window': mostWithin(calls, windowS * 1000),
      outcomes: [...new Set(calls.map(({ status, slug }) => `${status} ${slug}`.trim()))].toSorted(),
      'admitted again after, ms': againMs,
    };
  } finally {
    await rig.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The most calls that were admitted within `windowMs` for certain: begun and ended in the time from the beginning of one. */
function mostWithin(calls: readonly Call[], windowMs: number): number {
  const admitted = calls
    .filter(({ status }) => status === 200)
    .sort((one, other) => one.startedAtMs - other.startedAtMs);
  let most = 0;
  for (const [from, { startedAtMs: beginMs }] of admitted.entries()) {
    let count = 0;
    for (let at = from; (admitted[at]?.startedAtMs ?? Number.POSITIVE_INFINITY) <= beginMs + windowMs; at += 1) {
      const { startedAtMs, tookMs } = admitted[at] as Call;
      if (startedAtMs + tookMs <= beginMs + windowMs) count += 1;
    }
    most = Math.max(most, count);
  }
  return most;
}
