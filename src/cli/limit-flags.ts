/** Limits as flags: `--limit 60 --window 60 --algorithm A --burst N`, `--add-limit 10/1s`, `--quota 100000/month`. */
import { type Command, InvalidArgumentError } from 'commander';
import { algorithms, periods } from '../admission/limit.js';

const unitSeconds: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 };

/** What the flags of {@link addRateLimitOptions} say. */
export interface RateLimitFlags {
  readonly limit?: number | undefined;
  readonly window?: number | undefined;
  readonly algorithm?: string | undefined;
  readonly burst?: number | undefined;
}

/** A limit or quota in the shape that the drafts take. */
export interface LimitFlag {
  readonly limit: number;
  readonly window?: number;
  readonly period?: string;
  readonly algorithm?: string;
}

/** Adds the four flags of one rate limit. */
export function addRateLimitOptions(command: Command): Command {
  return command
    .option('--limit <calls>', 'calls allowed in a window', wholeNumber)
    .option('--window <seconds>', 'length of the window in seconds', wholeNumber)
    .option('--algorithm <name>', algorithms.join(', '))
    .option('--burst <calls>', 'calls that may come at once (token-bucket)', wholeNumber);
}

/** The rate limit that was asked for, or undefined when none of its flags was given. */
export function rateLimitOf({ limit, window, algorithm, burst }: RateLimitFlags): RateLimitFlags | undefined {
  const given = Object.entries({ limit, window, algorithm, burst }).filter(([, value]) => value !== undefined);
  return given.length === 0 ? undefined : Object.fromEntries(given);
}

/** Reads a whole number; commander names the flag when it is none. */
export function wholeNumber(text: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('It must be a whole number.');
}

/** Reads `10/1s`, `1000/h`, `5/10s:token-bucket` or, as a quota, `100000/month`. */
export function limitFlag(text: string): LimitFlag {
  const [, calls = '', per = '', algorithm] = /^(\d{1,10})\/([0-9a-z]+)(?::([a-z-]+))?$/.exec(text) ?? [];
  const limit = Number(calls);
  if (calls !== '' && algorithm === undefined && (periods as readonly string[]).includes(per)) {
    return { limit, period: per };
  }
  const [, count, unit = ''] = /^(\d{0,8})([smhd])$/.exec(per) ?? [];
  if (calls === '' || count === undefined) {
    throw new InvalidArgumentError('It must read like 10/1s, 60/1m or 5/10s:token-bucket (units s, m, h, d).');
  }
  const window = Number(count === '' ? 1 : count) * (unitSeconds[unit] as number);
  return algorithm === undefined ? { limit, window } : { limit, window, algorithm };
}

/** Reads `100000/month`, or `none` (commander would take null for a flag without a value). */
export function quotaFlag(text: string): LimitFlag | 'none' {
  if (text === 'none') return text;
  const quota = limitFlag(text);
  if (quota.period !== undefined) return quota;
  throw new InvalidArgumentError('It must read like 100000/month or 5000/day, or none.');
}
