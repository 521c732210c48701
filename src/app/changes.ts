/**
 * Follows what other processes announce of tokens and tenants. The deny cache may stand in for Redis only while this
 * process hears of every change; leases and what is known for an outage are forgotten by it.
 */
import { Cluster, type Redis } from 'ioredis';
import type { AdmissionGate } from '../admission/gate.js';
import type { OutageLimits } from '../admission/outage.js';
import { ClusterNodes, type NodeName } from '../redis/cluster-nodes.js';
import { changesChannel, keys } from '../redis/keys.js';
import type { RedisConnection } from '../redis/target.js';

/** `redis`: a connection of purpose `changes`. Answers what ends it; the connection is the caller's to close. */
export function followChanges(
  redis: RedisConnection,
  { denials, leases }: Pick<AdmissionGate, 'denials' | 'leases'>,
  outage: OutageLimits,
): () => void {
  const changed = (subject: string): void => {
    const name = subject.slice(subject.indexOf(':') + 1);
    if (subject.startsWith('token:')) {
      denials.forgetToken(keys.token(name));
      leases.forgetToken(keys.token(name));
      outage.forget(keys.token(name));
    } else if (subject.startsWith('tenant:')) {
      denials.forgetTenant(keys.tenant(name));
      leases.forgetTenant(keys.tenant(name));
      outage.forget(keys.tenant(name));
    }
  };
  const hears = (yes: boolean): void => {
    if (denials.enabled !== yes) denials.enabled = yes;
  };
  if (redis instanceof Cluster) return listenToCluster(redis, changed, hears);
  listen(redis, changed, hears);
  return () => {};
}

/**
 * A node passes on what is announced at any other, but only while they hear each other: so every primary is listened
 * to, and a change is heard from the node on which it was made.
 */
function listenToCluster(
  cluster: Cluster,
  changed: (subject: string) => void,
  hearsAll: (yes: boolean) => void,
): () => void {
  const nodes = new ClusterNodes(cluster);
  const heard = new Set<NodeName>();
  const known = new WeakSet<Redis>();
  const judge = (): void => {
    const owners = nodes.owners();
    hearsAll(owners.length > 0 && owners.every((node) => heard.has(node)));
  };
  nodes.onChange(() => {
    for (const node of nodes.owners()) {
      const redis = nodes.connection(node);
      if (known.has(redis)) continue;
      known.add(redis);
      listen(redis, changed, (hears) => {
        if (hears) heard.add(node);
        else heard.delete(node);
        judge();
      });
    }
    judge();
  });
  return () => nodes.close();
}

/**
 * How often a connection that only listens is asked whether it still stands, ms: else nobody would see that it does not.
 * One whose subscription was not answered subscribes again.
 */
const askEveryMs = 2000;

/** `hears` is told whether the connection would bring every announcement. */
function listen(redis: Redis, changed: (subject: string) => void, hears: (yes: boolean) => void): void {
  let isHeard = false;
  let asking: NodeJS.Timeout | undefined;
  const heard = (yes: boolean): void => {
    isHeard = yes;
    hears(yes);
  };
  const subscribe = (): void => {
    redis.subscribe(changesChannel).then(
      () => heard(true),
      () => heard(false),
    );
  };
  redis.on('ready', () => {
    subscribe();
    clearInterval(asking);
    asking = setInterval(() => {
      if (isHeard) redis.ping().catch(() => {});
      else subscribe();
    }, askEveryMs);
    asking.unref();
  });
  redis.on('close', () => {
    clearInterval(asking);
    heard(false);
  });
  redis.on('message', (_channel: string, subject: string) => changed(subject));
}
