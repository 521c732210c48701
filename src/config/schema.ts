/**
 * Every configuration key: its type, default, meaning and what is allowed, in one zod schema.
 *
 * The keys are declared in keys/, by purpose. The environment name of a key is derived ({@link environmentName}),
 * docs/configuration.md is generated from here (describe.ts), and load.ts reads every source against it. A key that is
 * not here does not exist.
 */
import { z } from 'zod';
import { admin } from './keys/admin.js';
import { callers } from './keys/callers.js';
import { capacity } from './keys/capacity.js';
import { credentials } from './keys/credentials.js';
import { descriptions, type KeyDescription } from './keys/key.js';
import { listeners } from './keys/listeners.js';
import { accessLog, audit } from './keys/records.js';
import { redis } from './keys/redis.js';
import { upstream } from './keys/upstream.js';

/** The schema: strict, every key with its default. Loading goes through load.ts, which adds the sources. */
export const configSchema = z.strictObject({
  ...listeners,
  ...upstream,
  ...redis,
  ...credentials,
  ...callers,
  ...accessLog,
  ...admin,
  ...audit,
  ...capacity,
});

export type ConfigKey = keyof typeof configSchema.shape;

/** Where the policy is; src/policy reads it. */
export type PolicySource =
  | { readonly kind: 'file' /** Absolute. */; readonly path: string }
  | {
      readonly kind: 'inline';
      readonly value: unknown;
      /** The configuration file, as the operator named it. */
      readonly source: string;
      /** Line of `policy:` in that file. */
      readonly line: number;
      /** Line of an element below `policy:`, such as `['routes', 3, 'path']`; of its nearest parent when it is absent. */
      readonly lineOf: (path: readonly (string | number)[]) => number;
    };

/** A checked configuration: paths absolute, defaults filled in, no contradiction. Keys without a default may be absent. */
export type Config = Readonly<Omit<z.output<typeof configSchema>, 'policy'>> & { readonly policy?: PolicySource };

export const configKeys = Object.keys(configSchema.shape) as ConfigKey[];

/** What is said of a key where it is declared (keys/). */
export function describeKey(key: ConfigKey): KeyDescription {
  return descriptions.get(configSchema.shape[key]) as KeyDescription;
}

/** The default of a key; undefined when it has none. */
export function defaultOf(key: ConfigKey): unknown {
  return configSchema.shape[key].parse(undefined);
}

/** `upstreamTimeoutMs` is `TOLLKEEPER_UPSTREAM_TIMEOUT_MS` in the environment. */
export function environmentName(key: string): string {
  return `TOLLKEEPER_${key.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;
}

/** What a running `serve` takes over on SIGHUP; every other key needs a restart. */
export const reloadableKeys: readonly ConfigKey[] = configKeys.filter((key) => describeKey(key).reloadable === true);
