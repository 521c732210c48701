/**
 * The nodes of a Redis Cluster, for callers that must know which node a command runs on: admission, which writes to a
 * node once for many scripts, and confirmed changes, whose WAIT belongs on the connection that wrote.
 *
 * Purpose: which node holds a slot, and a connection of our own to each node that is asked.
 * Algorithm: the map of slots is ioredis' (CLUSTER SLOTS from any node, every 5 s). It is read again when a node says
 *   MOVED, and every 200 ms while calls fail: a failover is seen within that time of its election.
 * Concurrency: all callers of a process share a node's connection; commands given to it in one turn leave in order.
 * Failure: a connection fails fast (no queue, nothing sent twice) and is taken up again with a backoff. One that no slot
 *   needs any more is closed after 10 s.
 */
import { type Cluster, Command, Redis, type RedisOptions } from 'ioredis';
import { setTimeout as delay } from 'node:timers/promises';
import { reconnectDelayMs } from './reconnect.js';
import { redirectionIn } from './redirection.js';

/** `host:port`, as the Cluster names its nodes. */
export type NodeName = string;

interface NodeConnection {
  readonly redis: Redis;
  usedAtMs: number;
}

/** For {@link ClusterNodes.runAt}. */
const connectedWithinMs = 1000;
const attemptsMax = 5;
const tryAgainAfterMs = 50;

const refreshEveryMs = 200;
/** How long after a failure the map is read again and again, ms. */
const troubledForMs = 2000;
const unusedAfterMs = 10_000;

/** Slot of a key (Redis Cluster specification: CRC16 of its hash tag, modulo 16384). */
export function slotOf(key: string): number {
  return new Command('get', [key]).getSlot();
}

export class ClusterNodes {
  readonly #cluster: Cluster;
  readonly #connections = new Map<NodeName, NodeConnection>();
  readonly #changed = new Set<() => void>();
  readonly #connected = new Set<(node: NodeName) => void>();
  #troubledUntilMs = 0;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  /** `cluster` gives the map and the options of connections; it is the caller's to close, before or after this. */
  constructor(cluster: Cluster) {
    this.#cluster = cluster;
    cluster.on('refresh', this.#refreshed);
  }

  /** The primary of a slot; undefined while no map was read. */
  ownerOf(slot: number): NodeName | undefined {
    return this.#cluster.slots[slot]?.[0];
  }

  /** Every primary that holds a slot. */
  owners(): NodeName[] {
    return [...new Set(this.#cluster.slots.flatMap((holders) => holders?.[0] ?? []))];
  }

  /** The connection to a node, opened when there is none. It may not be ready. */
  connection(node: NodeName): Redis {
    let found = this.#connections.get(node);
    if (found === undefined) {
      found = { redis: this.#open(node), usedAtMs: 0 };
      this.#connections.set(node, found);
    }
    found.usedAtMs = performance.now();
    return found.redis;
  }

  /** As {@link connection}, when it can be written to at once; else undefined, and it is on its way. */
  readyConnection(node: NodeName): Redis | undefined {
    const redis = this.connection(node);
    return redis.status === 'ready' ? redis : undefined;
  }

  /** As {@link connection}, once it can be written to; undefined after `timeoutMs`. */
  async awaitConnection(node: NodeName, timeoutMs: number): Promise<Redis | undefined> {
    const redis = this.connection(node);
    if (redis.status === 'ready') return redis;
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        redis.off('ready', done);
        resolve(redis.status === 'ready' ? redis : undefined);
      };
      const timer = setTimeout(done, timeoutMs);
      redis.once('ready', done);
    });
  }

  /** Answers when there is a map and every primary is connected, or after `timeoutMs`. */
  async settled(timeoutMs: number): Promise<void> {
    const deadlineMs = performance.now() + timeoutMs;
    if (this.owners().length === 0) {
      await new Promise<void>((resolve) => {
        const done = (): void => {
          clearTimeout(timer);
          this.#changed.delete(done);
          resolve();
        };
        const timer = setTimeout(done, timeoutMs);
        this.#changed.add(done);
      });
    }
    const leftMs = Math.max(0, deadlineMs - performance.now());
    await Promise.all(this.owners().map((node) => this.awaitConnection(node, leftMs)));
  }

  /** A node said MOVED: `slot` is at `node` now. */
  moved(slot: number, node: NodeName): void {
    const holders = this.#cluster.slots[slot];
    this.#cluster.slots[slot] = [node, ...(holders ?? []).slice(1)];
    for (const listener of this.#changed) listener();
    this.#cluster.refreshSlotsCache();
  }

  /** A node failed, or says that it is not what the map says: the map is read until nobody has said so for 2 s. */
  troubled(): void {
    this.#troubledUntilMs = performance.now() + troubledForMs;
    if (this.#timer !== undefined || this.#closed) return;
    this.#cluster.refreshSlotsCache();
    this.#timer = setInterval(() => {
      if (performance.now() < this.#troubledUntilMs) {
        this.#cluster.refreshSlotsCache();
        return;
      }
      clearInterval(this.#timer);
      this.#timer = undefined;
    }, refreshEveryMs);
    this.#timer.unref();
  }

  /**
   * Runs a command, or several of one turn, where `key` is, and answers on which connection it ran. Is it said to be
   * elsewhere, it is asked for there; nothing has run then.
   * @throws what the connection or the node says; Error when the node cannot be reached.
   */
  async runAt<T>(key: string, command: (redis: Redis) => Promise<T>): Promise<{ redis: Redis; reply: T }> {
    const slot = slotOf(key);
    let asked: NodeName | undefined;
    for (let attempt = 1; ; attempt += 1) {
      const node = asked ?? this.ownerOf(slot) ?? '';
      const redis = node === '' ? undefined : await this.awaitConnection(node, connectedWithinMs);
      if (redis === undefined) {
        this.troubled();
        throw new Error("Stream isn't writeable: the node of the Cluster that holds this cannot be reached");
      }
      try {
        if (asked !== undefined) redis.asking().catch(() => {});
        return { redis, reply: await command(redis) };
      } catch (error) {
        const redirection = redirectionIn(error, node);
        if (redirection === undefined) this.troubled();
        if (redirection === undefined || attempt === attemptsMax) throw error;
        asked = redirection.kind === 'ask' ? redirection.node : undefined;
        if (redirection.kind === 'moved') this.moved(slot, redirection.node);
        if (redirection.kind === 'try-again') await delay(tryAgainAfterMs);
      }
    }
  }

  /** Hears that slots may lie elsewhere. */
  onChange(listener: () => void): void {
    this.#changed.add(listener);
  }

  /** Hears of each node that can be written to from now on. */
  onConnected(listener: (node: NodeName) => void): void {
    this.#connected.add(listener);
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#timer);
    this.#cluster.off('refresh', this.#refreshed);
    for (const { redis } of this.#connections.values()) redis.disconnect();
    this.#connections.clear();
  }

  readonly #refreshed = (): void => {
    if (this.#closed) return;
    const owners = this.owners();
    for (const node of owners) this.connection(node);
    const nowMs = performance.now();
    for (const [node, { redis, usedAtMs }] of this.#connections) {
      if (nowMs - usedAtMs < unusedAfterMs) continue;
      redis.disconnect();
      this.#connections.delete(node);
    }
    for (const listener of this.#changed) listener();
  };

  #open(node: NodeName): Redis {
    const colon = node.lastIndexOf(':');
    // ioredis' type of the options excludes itself under exact optional properties.
    const shared = this.#cluster.options.redisOptions as Omit<RedisOptions, 'replyMapping'>;
    const redis = new Redis({
      ...shared,
      host: node.slice(0, colon),
      port: Number(node.slice(colon + 1)),
      enableOfflineQueue: false,
      retryStrategy: reconnectDelayMs,
    });
    redis.on('error', () => {});
    // As many may wait for it as there are commands.
    redis.setMaxListeners(0);
    redis.on('ready', () => {
      for (const listener of this.#connected) listener(node);
    });
    return redis;
  }
}
