/** The most expensive functions of a V8 CPU profile (`--cpu-prof`), by self time within the measured window. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The part of the format that is read (https://chromedevtools.github.io/devtools-protocol/tot/Profiler/#type-Profile). */
interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
  }[];
  /** Microseconds on the monotonic clock. */
  readonly startTime: number;
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

export interface FunctionCost {
  readonly name: string;
  /** Part of the busy time, 0 to 1. */
  readonly part: number;
  /** Microseconds a request. */
  readonly usPerRequest: number;
}

const root = fileURLToPath(new URL('../../', import.meta.url));
const idle = '(idle)';

/** Functions by falling self time. `window` is on the monotonic clock, which the profile uses too. */
export function expensiveFunctions(
  file: string,
  window: { readonly fromUs: number; readonly toUs: number },
  requests: number,
): FunctionCost[] {
  const profile = JSON.parse(readFileSync(file, 'utf8')) as CpuProfile;
  const names = new Map(profile.nodes.map(({ id, callFrame }) => [id, nameOf(callFrame)]));
  const selfUs = new Map<string, number>();
  let busyUs = 0;
  let atUs = profile.startTime;
  for (const [index, id] of profile.samples.entries()) {
    atUs += profile.timeDeltas[index] ?? 0;
    if (atUs < window.fromUs || atUs > window.toUs) continue;
    // A sample stands for the time until the next one.
    const us = profile.timeDeltas[index + 1] ?? 0;
    const name = names.get(id) ?? '(unknown)';
    if (name === idle || us <= 0) continue;
    busyUs += us;
    selfUs.set(name, (selfUs.get(name) ?? 0) + us);
  }
  return [...selfUs]
    .sort(([, left], [, right]) => right - left)
    .map(([name, us]) => ({ name, part: us / busyUs, usPerRequest: us / requests }));
}

/** The newest profile of a folder. */
export function newestProfile(dir: string): string {
  // The names hold date, time and a sequence number.
  const names = readdirSync(dir).filter((name) => name.endsWith('.cpuprofile'));
  const newest = names.sort().at(-1);
  if (newest === undefined) throw new Error(`no profile was written into ${dir}`);
  return join(dir, newest);
}

/** One line a function. */
export function profileLines(costs: readonly FunctionCost[], count: number): string[] {
  return costs
    .slice(0, count)
    .map(
      ({ name, part, usPerRequest }) =>
        `${(part * 100).toFixed(1).padStart(5)}%  ${usPerRequest.toFixed(2).padStart(6)} us  ${name}`,
    );
}

function nameOf({ functionName, url, lineNumber }: CpuProfile['nodes'][number]['callFrame']): string {
  const name = functionName === '' ? '(anonymous)' : functionName;
  if (url === '') return name;
  const place = url.replace('file://', '').replace(root, '');
  return `${name} ${place}:${lineNumber + 1}`;
}
