/**
 * Reads the JSON of a record field by field: strict on the type of what it knows, blind to what it does not (a newer
 * Tollkeeper may have written more). Runs for every record that a sidecar has not in its cache, hence no schema library.
 */
import {
  type Algorithm,
  algorithms,
  type Limit,
  type Period,
  periods,
  type Quota,
  type RateLimit,
} from '../admission/limit.js';

/** A record in Redis is not what it must be: data is damaged or not ours. Names the field, never its value. */
export class RecordError extends Error {
  constructor(kind: string, field: string, expected: string) {
    super(`the record of a ${kind} in Redis is damaged: "${field}" is not ${expected}`);
  }
}

type Fields = Readonly<Record<string, unknown>>;

export class RecordReader {
  readonly #kind: string;
  readonly #fields: Fields;

  /** @throws RecordError when `json` is not a JSON object. */
  constructor(kind: string, json: string) {
    this.#kind = kind;
    let parsed: unknown;
    try {
      parsed = JSON.parse(json);
    } catch {
      // The parser's message would quote the record.
      parsed = undefined;
    }
    if (!isFields(parsed)) throw new RecordError(kind, '', 'a JSON object');
    this.#fields = parsed;
  }

  text(field: string): string {
    const value = this.#fields[field];
    return typeof value === 'string' ? value : this.#fail(field, 'a string');
  }

  textOrNull(field: string): string | null {
    return this.#isAbsent(field) ? null : this.text(field);
  }

  integer(field: string): number {
    const value = this.#fields[field];
    return Number.isSafeInteger(value) ? (value as number) : this.#fail(field, 'an integer');
  }

  integerOrNull(field: string): number | null {
    return this.#isAbsent(field) ? null : this.integer(field);
  }

  flag(field: string): boolean {
    const value = this.#fields[field];
    return typeof value === 'boolean' ? value : this.#fail(field, 'true or false');
  }

  /** False where it was not written. */
  flagOrFalse(field: string): boolean {
    return this.#isAbsent(field) ? false : this.flag(field);
  }

  oneOf<const T extends string>(field: string, allowed: readonly T[]): T {
    const value = this.#fields[field];
    return (allowed as readonly unknown[]).includes(value) ? (value as T) : this.#fail(field, allowed.join(' or '));
  }

  texts(field: string): string[] {
    const value = this.#fields[field];
    if (!Array.isArray(value)) return this.#fail(field, 'an array');
    for (const item of value) if (typeof item !== 'string') this.#fail(field, 'an array of strings');
    return value as string[];
  }

  textMapOrEmpty(field: string): Record<string, string> {
    if (this.#isAbsent(field)) return {};
    const value = this.#fields[field];
    if (!isFields(value)) return this.#fail(field, 'an object');
    for (const item of Object.values(value)) if (typeof item !== 'string') this.#fail(field, 'an object of strings');
    return value as Record<string, string>;
  }

  rateLimit(field: string): RateLimit {
    const limit = this.#limit(field, this.#fields[field]);
    return 'window' in limit ? limit : this.#fail(field, 'a rate limit');
  }

  rateLimitOrNull(field: string): RateLimit | null {
    return this.#isAbsent(field) ? null : this.rateLimit(field);
  }

  quotaOrNull(field: string): Quota | null {
    if (this.#isAbsent(field)) return null;
    const limit = this.#limit(field, this.#fields[field]);
    return 'period' in limit ? limit : this.#fail(field, 'a quota');
  }

  limits(field: string): Limit[] {
    const value = this.#fields[field];
    if (!Array.isArray(value)) return this.#fail(field, 'an array');
    return value.map((item) => this.#limit(field, item));
  }

  /** A field that an older Tollkeeper did not write counts as null, where null is allowed. */
  #isAbsent(field: string): boolean {
    return this.#fields[field] === undefined || this.#fields[field] === null;
  }

  #limit(field: string, value: unknown): Limit {
    if (!isFields(value)) return this.#fail(field, 'a limit');
    const { limit, window, algorithm, burst, period } = value;
    if (!isCount(limit)) return this.#fail(field, 'a limit with a positive number of calls');
    if (period !== undefined) {
      if (!periods.includes(period as Period)) return this.#fail(field, 'a quota with a known period');
      return { limit, period: period as Period };
    }
    if (!isCount(window)) return this.#fail(field, 'a limit with a positive window');
    if (!algorithms.includes(algorithm as Algorithm)) return this.#fail(field, 'a limit with a known algorithm');
    if (burst === undefined) return { limit, window, algorithm: algorithm as Algorithm };
    if (!isCount(burst)) return this.#fail(field, 'a limit with a positive burst');
    return { limit, window, algorithm: algorithm as Algorithm, burst };
  }

  #fail(field: string, expected: string): never {
    throw new RecordError(this.#kind, field, expected);
  }
}

/**
 * The JSON to write for a changed record. Fields that this version does not know stay as they are, so that an older
 * CLI cannot strip a restriction that a newer one has set.
 */
export function encodeChanged(previousJson: string, record: object): string {
  return JSON.stringify({ ...(JSON.parse(previousJson) as object), ...record });
}

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) > 0;
}
