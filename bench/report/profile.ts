/** Where a V8 CPU profile (`--cpu-prof`) says the time went within the measured window: by function and by part. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

interface CallFrame {
  readonly functionName: string;
  readonly url: string;
  readonly lineNumber: number;
}

/** The part of the format that is read (https://chromedevtools.github.io/devtools-protocol/tot/Profiler/#type-Profile). */
interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: CallFrame;
    readonly children?: readonly number[];
  }[];
  /** Microseconds on the monotonic clock. */
  readonly startTime: number;
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

export interface Cost {
  readonly name: string;
  /** Part of the busy time, 0 to 1. */
  readonly part: number;
  /** Microseconds a request. */
  readonly usPerRequest: number;
}

export interface ProfileCosts {
  /** Self time of each function. */
  readonly functions: readonly Cost[];
  /** The same time by folder of `src` or package: what it calls in Node and natively is its own. */
  readonly parts: readonly Cost[];
}

const root = fileURLToPath(new URL('../../', import.meta.url));
const idle = '(idle)';

/** Costs by falling time. `window` is on the monotonic clock, which the profile uses too. */
export function profileCosts(
  file: string,
  window: { readonly fromUs: number; readonly toUs: number },
  requests: number,
): ProfileCosts {
  const profile = JSON.parse(readFileSync(file, 'utf8')) as CpuProfile;
  const names = new Map(profile.nodes.map(({ id, callFrame }) => [id, nameOf(callFrame)]));
  const parts = partsOf(profile);
  const byFunction = new Map<string, number>();
  const byPart = new Map<string, number>();
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
    add(byFunction, name, us);
    add(byPart, parts.get(id) ?? '(unknown)', us);
  }
  const sorted = (costs: ReadonlyMap<string, number>): Cost[] =>
    [...costs]
      .sort(([, left], [, right]) => right - left)
      .map(([name, us]) => ({ name, part: us / busyUs, usPerRequest: us / requests }));
  return { functions: sorted(byFunction), parts: sorted(byPart) };
}

function add(sums: Map<string, number>, name: string, us: number): void {
  sums.set(name, (sums.get(name) ?? 0) + us);
}

/** The part of every node: its own, or that of the nearest caller which has one. */
function partsOf({ nodes }: CpuProfile): Map<number, string> {
  const parentOf = new Map<number, number>();
  for (const { id, children = [] } of nodes) for (const child of children) parentOf.set(child, id);
  const frames = new Map(nodes.map(({ id, callFrame }) => [id, callFrame]));
  const parts = new Map<number, string>();
  for (const { id, callFrame } of nodes) {
    let part = '';
    for (let at: number | undefined = id; at !== undefined && part === ''; at = parentOf.get(at)) {
      part = partOf(frames.get(at)?.url ?? '');
    }
    parts.set(id, part === '' ? `Node and V8: ${callFrame.functionName}` : part);
  }
  return parts;
}

function partOf(url: string): string {
  const [, dependency] = /\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(url) ?? [];
  // undici compiles its parser to WebAssembly, which has no other address.
  return dependency ?? (url.startsWith('wasm://') ? 'undici' : (/\/dist\/([^/]+)\//.exec(url)?.[1] ?? ''));
}

/** The newest profile of a folder. */
export function newestProfile(dir: string): string {
  // The names hold date, time and a sequence number.
  const names = readdirSync(dir).filter((name) => name.endsWith('.cpuprofile'));
  const newest = names.sort().at(-1);
  if (newest === undefined) throw new Error(`no profile was written into ${dir}`);
  return join(dir, newest);
}

/** One line each. */
export function costLines(costs: readonly Cost[], count: number): string[] {
  return costs
    .slice(0, count)
    .map(
      ({ name, part, usPerRequest }) =>
        `${(part * 100).toFixed(1).padStart(5)}%  ${usPerRequest.toFixed(2).padStart(6)} us  ${name}`,
    );
}

function nameOf({ functionName, url, lineNumber }: CallFrame): string {
  const name = functionName === '' ? '(anonymous)' : functionName;
  if (url === '') return name;
  const place = url.replace('file://', '').replace(root, '');
  return `${name} ${place}:${lineNumber + 1}`;
}
