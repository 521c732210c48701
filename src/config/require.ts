/** Keys that only some commands need, asked for when they are needed. */
import { readFileSync } from 'node:fs';
import { OperatorError } from '../core/failure.js';
import { parseAddress, parseUpstreamAddress, type UpstreamAddress } from './formats.js';
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

interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** What a connection to Redis needs, in the shape that redis/connect.ts takes. */
interface AnySettings {
  readonly commandTimeoutMs: number;
  readonly tls: { readonly ca?: string; readonly cert?: string; readonly key?: string };
}
interface ServerSettings extends AnySettings {
  readonly kind: 'server';
  readonly url: string;
}
interface NodeSettings extends AnySettings {
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly useTls: boolean;
}
interface ClusterSettings extends NodeSettings {
  readonly kind: 'cluster';
  readonly nodes: readonly HostPort[];
}
interface SentinelSettings extends NodeSettings {
  readonly kind: 'sentinel';
  readonly sentinels: readonly HostPort[];
  readonly name: string;
  readonly sentinelUsername: string | undefined;
  readonly sentinelPassword: string | undefined;
}
type RedisSettings = ServerSettings | ClusterSettings | SentinelSettings;

/**
 * The Redis that holds tokens, with the certificates read from their files.
 * @throws OperatorError when none is set or a certificate file cannot be read.
 */
export function redisSettings(config: Config): RedisSettings {
  const { redisCluster, redisSentinels } = config;
  if (redisCluster === undefined && redisSentinels === undefined) {
    if (config.redisUrl !== undefined) return serverSettings(config, config.redisUrl);
    throw new OperatorError(
      'redisUrl is not set: set TOLLKEEPER_REDIS_URL (or "redisUrl:" in the file given with --config) to ' +
        `${describeKey('redisUrl').allowed}; or TOLLKEEPER_REDIS_CLUSTER for a Redis Cluster; or ` +
        'TOLLKEEPER_REDIS_SENTINELS and TOLLKEEPER_REDIS_SENTINEL_NAME.',
    );
  }
  const access = {
    commandTimeoutMs: config.redisCommandTimeoutMs,
    tls: config.redisTls ? tlsFiles(config) : {},
    username: config.redisUser,
    password: config.redisPassword,
    useTls: config.redisTls,
  };
  if (redisCluster !== undefined) return { kind: 'cluster', nodes: hostPorts(redisCluster), ...access };
  return {
    kind: 'sentinel',
    sentinels: hostPorts(redisSentinels ?? []),
    name: requireKey(config, 'redisSentinelName'),
    sentinelUsername: config.redisSentinelUser,
    sentinelPassword: config.redisSentinelPassword,
    ...access,
  };
}

/**
 * The Redis that holds the access log: `logRedisUrl`, else the same as {@link redisSettings}.
 * @throws OperatorError as redisSettings does.
 */
export function logRedisSettings(config: Config): RedisSettings {
  return config.logRedisUrl === undefined ? redisSettings(config) : serverSettings(config, config.logRedisUrl);
}

/**
 * Replicas that must have a change before it is called done. Where a failover is expected, one is the least: a primary
 * that was cut off would else confirm by itself what is lost when the others have chosen a new one.
 */
export function minReplicas(config: Config): number {
  const fallback = config.redisCluster !== undefined || config.redisSentinels !== undefined ? 1 : 0;
  return config.redisMinReplicas ?? fallback;
}

/** Where the upstream is, and the certificates to reach it with, in the shape that upstream/upstream.ts takes. */
interface UpstreamSettings {
  readonly addresses: readonly UpstreamAddress[];
  readonly tls: {
    readonly ca?: string | undefined;
    readonly cert?: string | undefined;
    readonly key?: string | undefined;
    readonly serverName?: string | undefined;
  };
}

/**
 * Where the data plane forwards to, with the certificates read from their files; undefined when it does not listen.
 * @throws OperatorError when it listens and `upstream` is not set, or a certificate file cannot be read.
 */
export function upstreamSettings(config: Config): UpstreamSettings | undefined {
  if (config.listen === 'off') return undefined;
  const read = (key: 'upstreamTlsCa' | 'upstreamTlsCert' | 'upstreamTlsKey'): string | undefined => {
    const path = config[key];
    return path === undefined ? undefined : readPem(key, path);
  };
  return {
    addresses: requireKey(config, 'upstream').map((text) => parseUpstreamAddress(text) as UpstreamAddress),
    tls: {
      ca: read('upstreamTlsCa'),
      cert: read('upstreamTlsCert'),
      key: read('upstreamTlsKey'),
      serverName: config.upstreamTlsName,
    },
  };
}

function hostPorts(addresses: readonly string[]): HostPort[] {
  return addresses.map((address) => parseAddress(address) ?? { host: address, port: 0 });
}

function serverSettings(config: Config, url: string): ServerSettings {
  const tls = url.startsWith('rediss:') ? tlsFiles(config) : {};
  return { kind: 'server', url, commandTimeoutMs: config.redisCommandTimeoutMs, tls };
}

function tlsFiles(config: Config): AnySettings['tls'] {
  const tls: { ca?: string; cert?: string; key?: string } = {};
  if (config.redisTlsCa !== undefined) tls.ca = readPem('redisTlsCa', config.redisTlsCa);
  if (config.redisTlsCert !== undefined) tls.cert = readPem('redisTlsCert', config.redisTlsCert);
  if (config.redisTlsKey !== undefined) tls.key = readPem('redisTlsKey', config.redisTlsKey);
  return tls;
}

function readPem(key: ConfigKey, path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new OperatorError(`${key}: cannot read ${path} (${code ?? 'unknown reason'}): name a PEM file that exists.`);
  }
}
