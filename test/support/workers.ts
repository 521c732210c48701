/** What the tests of a sidecar with several processes ask it. */
import { readFileSync } from 'node:fs';
import { samplesOf } from './exposition.js';
import { call } from './http-client.js';
import { type Installation, type IssuedToken, startInstallation } from './installation.js';
import type { LogLine, Sidecar } from './sidecar.js';

/** Two workers. What is tested here is not speed: a busy machine must not turn a slow answer of Redis into 503. */
export const two = { TOLLKEEPER_WORKERS: '2', TOLLKEEPER_REDIS_COMMAND_TIMEOUT_MS: '20000' };

/** As many workers as users get who say nothing: one for each core. */
export const defaultWorkers = { TOLLKEEPER_WORKERS: '' };

/** An installation with one caller who is never limited. */
export async function installationWithCaller(): Promise<{ installation: Installation; token: IssuedToken }> {
  const installation = await startInstallation();
  await installation.tenant('acme', '--max-tokens', '100');
  const token = await installation.token('acme', '--name', 'caller', '--limit', '1000000');
  return { installation, token };
}

/** Process ids of the workers that have been ready so far, in the order of their coming. */
export function workerPids(sidecar: Sidecar): number[] {
  const ready = sidecar.logs().filter((line) => line.msg === 'ready' && line.worker !== undefined);
  return ready.map((line) => Number(line.pid));
}

/** Sends a signal to every process of a sidecar. */
export function signalAll(sidecar: Sidecar, signal: NodeJS.Signals): void {
  sidecar.signal(signal);
  for (const pid of workerPids(sidecar)) if (isAlive(pid)) process.kill(pid, signal);
}

/** Whether a process with this id runs. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    // A zombie that nobody has reaped yet is no process any more.
    return !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

/** Requests counted by all workers together. */
export async function requestsCounted(sidecar: Sidecar): Promise<number> {
  const { text } = await call(`${sidecar.adminUrl}/metrics`);
  const samples = [...samplesOf(text)].filter(([name]) => name.startsWith('tollkeeper_requests_total{'));
  return samples.reduce((sum, [, value]) => sum + value, 0);
}

/** One sample of /metrics. */
export async function sample(sidecar: Sidecar, name: string): Promise<number | undefined> {
  return samplesOf((await call(`${sidecar.adminUrl}/metrics`)).text).get(name);
}

/** Fits the line with this message. */
export const said = (msg: string) => (line: LogLine) => line.msg === msg;
