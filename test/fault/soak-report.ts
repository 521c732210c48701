/** What a soak comes to: its figures, and whether each target was met, missed, or cannot be judged by this run. */
import type { Call } from './history.js';
import type { Standstill } from './soak-bystander.js';
import type { LoopDelay, MemorySample, WatchedProcess } from './soak-watch.js';
import { type Trend, trendOf, withoutLargestStep } from './trend.js';

export type Verdict = 'met' | 'missed' | 'not judged';

export interface Judged {
  readonly target: string;
  readonly verdict: Verdict;
  readonly found: string;
}

/** Targets of docs/failure-modes.md. */
const slopeMaxMiBPerHour = 1;
const loopP99MaxMs = 20;
/** A slope over less time than this after the warm-up says nothing. */
export const slopeJudgedFromS = 900;

/** After Redis has stood still its breaker may be open: the first answer is promised within this, ms. */
const feltMs = 1000;

/**
 * Half of the time, 15 minutes at most: caches fill, each fault comes for the first times, code is compiled for it, and
 * the allocator finds its size.
 */
export function warmUpS(seconds: number): number {
  return Math.min(900, seconds / 2);
}

export interface Growth {
  readonly pid: number;
  readonly role: string;
  /** MiB after a collection: at the end of the warm-up, and at the end. */
  readonly resident: readonly [number, number];
  readonly heap: readonly [number, number];
  readonly outsideHeap: readonly [number, number];
  /** Both together. */
  readonly held: readonly [number, number];
  /** MiB an hour after the warm-up, with the bounds of a confidence of 95 %. */
  readonly heldPerHour: Trend | undefined;
  /** Its largest step, which is not in `heldPerHour`: second and MiB, 0 where there is none. */
  readonly step: readonly [number, number];
  readonly residentPerHour: Trend | undefined;
  readonly heapPerHour: Trend | undefined;
  readonly outsideHeapPerHour: Trend | undefined;
  /** All samples: second, and MiB resident, of the heap, outside of it. */
  readonly samples: readonly (readonly [number, number, number, number])[];
}

/**
 * What a process holds: objects, and memory of no file outside the heap. Not the resident memory: a page of the program
 * that is run for the first time, and room that V8 keeps for objects to come, are in it and are not held by anybody; a
 * quarter of an hour at the target is 64 such pages.
 */
function heldBytes({ heapBytes, outsideBytes }: MemorySample): number {
  return heapBytes + outsideBytes;
}

export function growthOf({ pid, role, samples }: WatchedProcess, warmS: number): Growth {
  const warm = samples.filter(({ atS }) => atS >= warmS);
  const ends = (bytes: (sample: MemorySample) => number): [number, number] => {
    const [first, last] = [warm[0], warm.at(-1)];
    return [mebibytes(first === undefined ? 0 : bytes(first)), mebibytes(last === undefined ? 0 : bytes(last))];
  };
  const points = (bytes: (sample: MemorySample) => number) =>
    warm.map((sample) => [sample.atS / 3600, bytes(sample) / 2 ** 20] as const);
  // A fault makes requests wait, and their buffers take what the allocator keeps from then on: once, to the most there
  // ever was. What is lost with each fault, or with each request, is not one step.
  const steady = withoutLargestStep(points(heldBytes));
  const trend = (bytes: (sample: MemorySample) => number): Trend | undefined => {
    return roundedTrend(trendOf(points(bytes)));
  };
  return {
    pid,
    role,
    resident: ends((sample) => sample.residentBytes),
    heap: ends((sample) => sample.heapBytes),
    outsideHeap: ends((sample) => sample.outsideBytes),
    held: ends(heldBytes),
    heldPerHour: roundedTrend(trendOf(steady.points)),
    step: [Math.round(warm[steady.step.at]?.atS ?? 0), rounded(steady.step.height)],
    residentPerHour: trend((sample) => sample.residentBytes),
    heapPerHour: trend((sample) => sample.heapBytes),
    outsideHeapPerHour: trend((sample) => sample.outsideBytes),
    samples: samples.map(({ atS, residentBytes, heapBytes, outsideBytes }) => [
      Math.round(atS),
      mebibytes(residentBytes),
      mebibytes(heapBytes),
      mebibytes(outsideBytes),
    ]),
  };
}

/**
 * Met: the slope is below the target. Missed: it is not, and is a slope at all (its lower bound is above zero). Else it
 * lies within the noise of a run of this length.
 */
export function judgeGrowth({ role, pid, heldPerHour: found, step }: Growth, judgedS: number): Judged {
  const target = `${role} ${pid}: what it holds grows by less than ${slopeMaxMiBPerHour} MiB an hour`;
  if (found === undefined || judgedS < slopeJudgedFromS) {
    return { target, verdict: 'not judged', found: `${Math.round(judgedS)} s after the warm-up are too short` };
  }
  const { slope, low, high } = found;
  const [atS, height] = step;
  const besides = height === 0 ? '' : `, besides ${height} MiB once at ${atS} s`;
  const verdict = slope < slopeMaxMiBPerHour ? 'met' : low > 0 ? 'missed' : 'not judged';
  return {
    target,
    verdict,
    found: `${slope} (${low} to ${high}) MiB an hour${besides}`,
  };
}

/** `witnessP99Ms`: the same of a process that does next to nothing; is that late too, it is the machine. */
export function judgeLoop({ pid, p99Ms, maxMs }: LoopDelay, witnessP99Ms: number): Judged {
  const target = `${pid}: the event loop's delay is below ${loopP99MaxMs} ms at p99 outside the faults`;
  const found = `p99 ${rounded(p99Ms)}, longest ${rounded(maxMs)} ms; of a process beside it p99 ${rounded(witnessP99Ms)} ms`;
  const verdict = p99Ms < loopP99MaxMs ? 'met' : witnessP99Ms < loopP99MaxMs ? 'missed' : 'not judged';
  return { target, verdict, found };
}

/** `check` rejects with what does not add up. */
export async function judgeIdentities(check: () => Promise<void>): Promise<Judged> {
  const target = 'answers, upstream, log and counters add up, and no process ended by itself';
  const found = await check().then(
    () => '',
    (error: unknown) => String(error),
  );
  return found === '' ? { target, verdict: 'met', found: 'they do' } : { target, verdict: 'missed', found };
}

/** 5xx and missing answers outside the faults, parted by whether something stood still that is not Tollkeeper's. */
export function judgeAnswers(
  unexpected: readonly Call[],
  standstills: readonly Standstill[],
): { readonly unexplained: readonly Call[]; readonly judged: Judged } {
  const unexplained = unexpected.filter((call) => !standstills.some((standstill) => touches(call, standstill)));
  const target = 'no 5xx and no missing answer outside the faults';
  const count = unexpected.length;
  const explained = count - unexplained.length;
  const found =
    count === 0
      ? '0'
      : `${count}, ${explained} of them while the machine or Redis, asked by another process, stood still`;
  const verdict = count === 0 ? 'met' : unexplained.length > 0 ? 'missed' : 'not judged';
  return { unexplained, judged: { target, verdict, found } };
}

function touches({ startedAtMs, tookMs }: Call, { fromMs, toMs }: Standstill): boolean {
  const from = performance.timeOrigin + startedAtMs;
  return from <= toMs + feltMs && from + tookMs >= fromMs;
}

function roundedTrend(found: Trend | undefined): Trend | undefined {
  return found && { slope: rounded(found.slope), low: rounded(found.low), high: rounded(found.high) };
}

function mebibytes(bytes: number): number {
  return rounded(bytes / 2 ** 20);
}

export function rounded(value: number): number {
  return Math.round(value * 10) / 10;
}

/** What a run as a whole comes to. A target that could not be judged is not met: it is said, with an exit code of its own. */
export function outcomeOf(judged: readonly Judged[]): { readonly text: string; readonly exitCode: 0 | 1 | 2 } {
  const count = (wanted: Verdict): number => judged.filter(({ verdict }) => verdict === wanted).length;
  const [met, missed, open] = [count('met'), count('missed'), count('not judged')];
  const text = `of ${judged.length} targets ${met} met, ${missed} missed, ${open} not judged`;
  if (missed > 0) return { text: `missed: ${text}`, exitCode: 1 };
  if (open > 0 || met === 0) return { text: `not judged: ${text}`, exitCode: 2 };
  return { text: `met: ${text}`, exitCode: 0 };
}
