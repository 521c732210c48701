/**
 * What a configuration key is made of: its zod type, with all that people and the documentation are told about it. The
 * keys themselves stand beside this file, by purpose; schema.ts puts them together.
 */
import { z } from 'zod';

/** How a value is written as text, in the environment or behind a flag. */
type ValueKind = 'text' | 'integer' | 'switch' | 'list' | 'path' | 'policy';

export interface KeyDescription {
  readonly group: string;
  readonly kind: ValueKind;
  /** What it is for, one sentence or two; Markdown. */
  readonly meaning: string;
  /** What a right value looks like; ends the sentence "allowed is …". */
  readonly allowed: string;
  /** A fitting value for the example file, where the default is none. */
  readonly example?: string;
  /** What the default is, where that depends on the machine; the example then stands for it in the example file. */
  readonly defaultIs?: string;
  /** The value is never printed, and it may be given as a file that holds it. */
  readonly secret?: true;
  /** Of a list: in the YAML file a single item, or several with commas, may be written as a text. */
  readonly mayStandAlone?: true;
  /** A running `serve` takes a new value on SIGHUP. */
  readonly reloadable?: true;
}

/** What is said of each key, by its type. */
export const descriptions = z.registry<KeyDescription>();

/** A key that is written as text: its type, judged by `isRight`, and what is said of it, for one of the next two. */
export function text(about: Omit<KeyDescription, 'kind'>, isRight: (value: string) => boolean) {
  return [z.string().refine(isRight), { ...about, kind: 'text' }] as const;
}

/** Has `value` where it is not set. */
export function keyWithDefault(value: string, [type, about]: ReturnType<typeof text>) {
  return type.default(value).register(descriptions, about);
}

/** Is undefined where it is not set. */
export function keyWithout([type, about]: ReturnType<typeof text>) {
  return type.optional().register(descriptions, about);
}

/** The path of a file; undefined where it is not set. */
export function path(group: string, meaning: string, example: string) {
  const about = { group, kind: 'path', meaning, allowed: 'the path of a file', example } as const;
  return z.string().min(1).optional().register(descriptions, about);
}

/** A whole number from `min` to `max`. */
export function integer(group: string, fallback: number, [min, max]: readonly [number, number], meaning: string) {
  const allowed = `a whole number from ${min} to ${max}`;
  return z
    .int()
    .min(min)
    .max(max)
    .default(fallback)
    .register(descriptions, { group, kind: 'integer', meaning, allowed });
}

/** A switch. */
export function onOff(group: string, fallback: boolean, meaning: string) {
  return z
    .boolean()
    .default(fallback)
    .register(descriptions, { group, kind: 'switch', meaning, allowed: 'true or false' });
}

/** What is allowed for several keys. */
export const addressForm = 'host:port, such as 127.0.0.1:8080 or [::1]:8080';
export const redisUrlForm = 'redis://[user:password@]host:port[/db], rediss://… (TLS) or unix:///path[?db=n]';

export const hourMs = 3_600_000;
