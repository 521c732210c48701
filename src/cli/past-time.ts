/** A time that has been, as people write it on a command line. */
import { OperatorError } from '../core/failure.js';

const unitMs: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };

/**
 * The Unix time in ms of `--since` and its like: 10m, 2h, 7d before now, or an RFC 3339 time.
 * @throws OperatorError (exit code 2) that names `option`, for anything else.
 */
export function pastTime(option: string, text: string, nowMs: number): number {
  const ago = /^(\d{1,6})([smhdw])$/.exec(text);
  if (ago !== null) return nowMs - Number(ago[1]) * (unitMs[ago[2] as string] as number);
  const timeMs = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)$/i.test(text) ? Date.parse(text) : NaN;
  if (Number.isNaN(timeMs)) {
    throw new OperatorError(`${option} must be a time such as 10m, 2h, 7d or 2026-01-31T00:00:00Z.`, 2);
  }
  return timeMs;
}
