/** Keys that only some commands need, asked for when they are needed. */
import { readFileSync } from 'node:fs';
import { OperatorError } from '../core/failure.js';
import { type Config, type ConfigKey, describeKey, environmentName } from './schema.js';

/**
 * The value of a key that has no default.
 * @throws OperatorError that names the key and how to set it, when it is not set.
 */
export function requireKey<K extends ConfigKey>(config: Config, key: K): NonNullable<Config[K]> {
  const value = config[key];
  if (value === undefined || value === null) {
    throw new OperatorError(
      `${key} is not set: set ${environmentName(key)} (or "${key}:" in the file given with --config) to ` +
        `${describeKey(key).allowed}.`,
    );
  }
  return value;
}

/**
 * Where the data plane forwards to; undefined when it does not listen.
 * @throws OperatorError when it listens and `upstream` is not set.
 */
export function upstreamOrigin(config: Config): string | undefined {
  return config.listen === 'off' ? undefined : requireKey(config, 'upstream');
}

/** What a connection to Redis needs, in the shape that redis/connect.ts takes. */
interface RedisSettings {
  readonly url: string;
  readonly commandTimeoutMs: number;
  readonly tls: { readonly ca?: string; readonly cert?: string; readonly key?: string };
}

/**
 * The Redis that holds tokens, with the certificates read from their files.
 * @throws OperatorError when `redisUrl` is not set or a certificate file cannot be read.
 */
export function redisSettings(config: Config): RedisSettings {
  return settingsFor(config, requireKey(config, 'redisUrl'));
}

/**
 * The Redis that holds the access log: `logRedisUrl`, else the same as {@link redisSettings}.
 * @throws OperatorError as redisSettings does.
 */
export function logRedisSettings(config: Config): RedisSettings {
  return settingsFor(config, config.logRedisUrl ?? requireKey(config, 'redisUrl'));
}

function settingsFor(config: Config, url: string): RedisSettings {
  const tls: { ca?: string; cert?: string; key?: string } = {};
  if (url.startsWith('rediss:')) {
    if (config.redisTlsCa !== undefined) tls.ca = readPem('redisTlsCa', config.redisTlsCa);
    if (config.redisTlsCert !== undefined) tls.cert = readPem('redisTlsCert', config.redisTlsCert);
    if (config.redisTlsKey !== undefined) tls.key = readPem('redisTlsKey', config.redisTlsKey);
  }
  return { url, commandTimeoutMs: config.redisCommandTimeoutMs, tls };
}

function readPem(key: ConfigKey, path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new OperatorError(`${key}: cannot read ${path} (${code ?? 'unknown reason'}): name a PEM file that exists.`);
  }
}
