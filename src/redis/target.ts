/** Where a Redis is: one server, a primary that Sentinels name, or a Cluster; and what a connection to it is. */
import type { Cluster, Redis } from 'ioredis';

/** A connection that commands are given to; on a Cluster it finds the node of each key by itself. */
export type RedisConnection = Redis | Cluster;

/** One address. */
export interface HostPort {
  readonly host: string;
  readonly port: number;
}

interface AnyTarget {
  /** Deadline of one command on the admission connection, ms. */
  readonly commandTimeoutMs: number;
  /** PEM texts; used where the connection is one with TLS. */
  readonly tls?: { readonly ca?: string; readonly cert?: string; readonly key?: string } | undefined;
}

/** One server. */
export interface ServerTarget extends AnyTarget {
  readonly kind?: 'server';
  /** `redis://[user:password@]host:port[/db]`, `rediss://…` (TLS) or `unix:///path[?db=n]`. */
  readonly url: string;
}

/** How the nodes behind Sentinels or of a Cluster are entered. */
interface NodeAccess extends AnyTarget {
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  readonly useTls: boolean;
}

/** The primary that Sentinels name. */
export interface SentinelTarget extends NodeAccess {
  readonly kind: 'sentinel';
  readonly sentinels: readonly HostPort[];
  readonly name: string;
  readonly sentinelUsername?: string | undefined;
  readonly sentinelPassword?: string | undefined;
}

/** A Cluster; any of its nodes tell of the others. */
export interface ClusterTarget extends NodeAccess {
  readonly kind: 'cluster';
  readonly nodes: readonly HostPort[];
}

export type RedisTarget = ServerTarget | SentinelTarget | ClusterTarget;

/** The address without user and password, for messages and logs. */
export function displayTarget(target: RedisTarget): string {
  if (target.kind === 'cluster') return `the cluster of ${target.nodes.map(displayHostPort).join(', ')}`;
  if (target.kind === 'sentinel') {
    return `the primary "${target.name}" of the Sentinels ${target.sentinels.map(displayHostPort).join(', ')}`;
  }
  const parsed = new URL(target.url);
  return parsed.protocol === 'unix:' ? `unix:${parsed.pathname}` : `${parsed.protocol}//${parsed.host}`;
}

/** The configuration key that names the target's address, for messages. */
export function addressVariable(target: RedisTarget): string {
  if (target.kind === 'cluster') return 'TOLLKEEPER_REDIS_CLUSTER';
  return target.kind === 'sentinel' ? 'TOLLKEEPER_REDIS_SENTINELS' : 'TOLLKEEPER_REDIS_URL';
}

function displayHostPort({ host, port }: HostPort): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
