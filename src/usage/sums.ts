/** The sums of an hour, a day or a lifetime as lua/log-append.lua keeps them: a msgpack map of numbers. */
import { Unpackr } from 'msgpackr';

/** What was counted in a stretch of time; adds up with others. */
export interface Sums {
  readonly durationUs: number;
  /** Calls by the first digit of their status; 0: the client left before there was one. */
  readonly statusClasses: readonly number[];
  /** Calls by bucket of src/usage/histogram.ts. */
  readonly buckets: ReadonlyMap<number, number>;
  /** Requests by outcome, `ok` not among them. */
  readonly outcomes: ReadonlyMap<string, number>;
}

export const emptySums: Sums = {
  durationUs: 0,
  statusClasses: [0, 0, 0, 0, 0, 0],
  buckets: new Map(),
  outcomes: new Map(),
};

const unpackr = new Unpackr({ mapsAsObjects: false, int64AsType: 'number' });

/**
 * Reads a field. `at` is the hour or day (since 1970) that it holds, 0 in the field `all`.
 * @throws Error when it is no such map: the key was written by something else.
 */
export function unpackSums(packed: Buffer): { readonly at: number; readonly sums: Sums } {
  const fields: unknown = unpackr.unpack(packed);
  if (!(fields instanceof Map)) throw new Error('usage sums are not a msgpack map');
  return sumsOf(fields as ReadonlyMap<string | number, number>);
}

/** The same of a map that is unpacked. */
export function sumsOf(fields: ReadonlyMap<string | number, number>): { readonly at: number; readonly sums: Sums } {
  let at = 0;
  let durationUs = 0;
  const statusClasses = [0, 0, 0, 0, 0, 0];
  const buckets = new Map<number, number>();
  const outcomes = new Map<string, number>();
  for (const [name, value] of fields) {
    if (typeof name === 'number') buckets.set(name, value);
    else if (name === 'at') at = value;
    else if (name === 'us') durationUs = value;
    else if (/^c[0-5]$/.test(name)) statusClasses[Number(name[1])] = value;
    else outcomes.set(name, value);
  }
  return { at, sums: { durationUs, statusClasses, buckets, outcomes } };
}

export function addSums(parts: Iterable<Sums>): Sums {
  let durationUs = 0;
  const statusClasses = [0, 0, 0, 0, 0, 0];
  const buckets = new Map<number, number>();
  const outcomes = new Map<string, number>();
  for (const part of parts) {
    durationUs += part.durationUs;
    for (const [digit, calls] of part.statusClasses.entries()) {
      statusClasses[digit] = (statusClasses[digit] as number) + calls;
    }
    for (const [bucket, calls] of part.buckets) buckets.set(bucket, (buckets.get(bucket) ?? 0) + calls);
    for (const [outcome, requests] of part.outcomes) outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + requests);
  }
  return { durationUs, statusClasses, buckets, outcomes };
}

export function callsOf({ statusClasses }: Sums): number {
  return statusClasses.reduce((sum, calls) => sum + calls, 0);
}
