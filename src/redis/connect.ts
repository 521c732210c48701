/**
 * Connections to Redis, one purpose each. ioredis' defaults do not fit a request path (a frozen server hangs every
 * request, a lost reply runs a command twice), so every option that decides behaviour in a fault is set here.
 */
import { Cluster, type ClusterOptions, Redis, type RedisOptions } from 'ioredis';
import { OperatorError } from '../core/failure.js';
import { reconnectDelayMs } from './reconnect.js';
import { sentinelConnector } from './sentinel-connector.js';
import { Sentinels } from './sentinels.js';
import { restoreStringMethods } from './string-methods.js';
import {
  addressVariable,
  type ClusterTarget,
  displayTarget,
  type RedisConnection,
  type RedisTarget,
  type SentinelTarget,
  type ServerTarget,
} from './target.js';

/** What a connection is for decides its deadline; each purpose has sockets of its own. */
export type ConnectionPurpose = 'admission' | 'log' | 'changes' | 'control';

/** ioredis' own, without the one property whose type excludes itself under exact optional properties. */
type ConnectionOptions = Omit<RedisOptions, 'replyMapping'>;

const slowCommandTimeoutMs = 2000;
/**
 * Connections on which nothing has come for so long although an answer is due, ms, are given up and made anew: what lies
 * between may have forgotten them (an address that moved, a firewall that lost its state), and then they pass nothing for
 * as long as the kernel tries, a quarter of an hour. At least; longer than any command may take.
 */
const silenceMinMs = 1000;
/** A node that does not answer must not hold up the search for one that does, ms. */
const searchTimeoutMs = 300;

/** Opens a connection (at once, in the background). Errors are for the caller's `error` listener, never thrown. */
export function connect(target: ServerTarget | SentinelTarget, purpose: ConnectionPurpose): Redis;
export function connect(target: ClusterTarget, purpose: ConnectionPurpose): Cluster;
export function connect(target: RedisTarget, purpose: ConnectionPurpose): RedisConnection;
export function connect(target: RedisTarget, purpose: ConnectionPurpose): RedisConnection {
  restoreStringMethods();
  const redis = target.kind === 'cluster' ? connectCluster(target, purpose) : connectServer(target, purpose);
  // Without a listener ioredis prints; state is read from `status` and from rejected commands.
  redis.on('error', () => {});
  return redis;
}

/** One server at a time. */
function connectServer(target: ServerTarget | SentinelTarget, purpose: ConnectionPurpose): Redis {
  const options = {
    ...behaviour(target, purpose),
    enableOfflineQueue: purpose === 'changes',
    retryStrategy: reconnectDelayMs,
    // A primary that was made a replica: find the new one.
    reconnectOnError: (error: Error) => (error.message.startsWith('READONLY') ? 1 : false),
  } satisfies ConnectionOptions;
  if (target.kind !== 'sentinel') return new LastingRedis({ ...addressOf(target), ...options });
  const sentinels = new Sentinels(target);
  const Connector = sentinelConnector(sentinels, target.useTls ? { ...target.tls } : undefined);
  return new LastingRedis({ ...accessOf(target), ...options, Connector }, sentinels);
}

/**
 * Comes back until it is closed on purpose: ioredis gives a connection up for good when one attempt is disconnected.
 * What it searches its server with ends with it.
 */
class LastingRedis extends Redis {
  readonly #sentinels: Sentinels | undefined;
  #isClosed = false;

  constructor(options: ConnectionOptions, sentinels?: Sentinels) {
    super(options);
    this.#sentinels = sentinels;
    this.on('end', () => {
      if (this.#isClosed) {
        sentinels?.close();
        return;
      }
      setTimeout(() => {
        if (!this.#isClosed && this.status === 'end') this.connect().catch(() => {});
      }, reconnectDelayMs(1)).unref();
    });
  }

  override disconnect(reconnect = false): void {
    if (!reconnect) this.#isClosed = true;
    super.disconnect(reconnect);
    // Between two attempts ioredis tells nobody of the end.
    if (!reconnect) this.#sentinels?.close();
  }

  override quit(...args: Parameters<Redis['quit']>): ReturnType<Redis['quit']> {
    this.#isClosed = true;
    return super.quit(...args);
  }
}

/** A node's connection is never taken up again: when it is lost, the map of slots is read anew. */
function connectCluster(target: ClusterTarget, purpose: ConnectionPurpose): Cluster {
  const options = {
    // A command may wait for the connection to its node to stand, within its deadline.
    enableOfflineQueue: true,
    // Whether all slots are served is seen by whoever asks for one that is not.
    enableReadyCheck: false,
    clusterRetryStrategy: reconnectDelayMs,
    // MOVED, ASK and TRYAGAIN say that nothing has run. A closed connection does not: that is for the caller to judge.
    maxRedirections: purpose === 'admission' ? 1 : 5,
    retryDelayOnTryAgain: 50,
    retryDelayOnFailover: 0,
    retryDelayOnClusterDown: 0,
    slotsRefreshTimeout: searchTimeoutMs,
    slotsRefreshInterval: 5000,
    redisOptions: { ...accessOf(target), ...behaviour(target, purpose) },
  } satisfies ClusterOptions;
  return new PromptCluster([...target.nodes], options);
}

/** Refuses at once while no node at all is known to be there; ioredis would keep commands without a deadline. */
class PromptCluster extends Cluster {
  override sendCommand(...[command, ...rest]: Parameters<Cluster['sendCommand']>): unknown {
    if (this.status === 'ready' || command.name === 'cluster') return super.sendCommand(command, ...rest);
    command.reject(new Error("Cluster isn't ready"));
    return command.promise;
  }
}

/** What every connection of a purpose does in a fault. */
function behaviour(target: RedisTarget, purpose: ConnectionPurpose): ConnectionOptions {
  // Admission keeps its own deadline and reads its socket once more before it gives up after a stall of this process;
  // a timer here would reject answers that lie in the socket already. This one is for a server that never answers.
  const commandTimeout = purpose === 'admission' ? target.commandTimeoutMs * 3 : slowCommandTimeoutMs;
  return {
    connectionName: `tollkeeper-${purpose}`,
    connectTimeout: 1000,
    // A command may run once or not at all, and the caller hears which within its deadline.
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    // Who subscribes does it anew on 'ready' (app/changes.ts). ioredis' own subscription has no handler: is its connection
    // lost before the reply, the rejection ends the process.
    autoResubscribe: false,
    commandTimeout,
    socketTimeout: Math.max(silenceMinMs, purpose === 'admission' ? commandTimeout : commandTimeout * 2),
    enableReadyCheck: true,
  };
}

/**
 * Opens a connection for a command of a person and waits until it is ready.
 * @throws OperatorError with the server's address (never its password) and what to check.
 */
export async function connectOrFail(target: ServerTarget | SentinelTarget): Promise<Redis>;
export async function connectOrFail(target: RedisTarget): Promise<RedisConnection>;
export async function connectOrFail(target: RedisTarget): Promise<RedisConnection> {
  const redis = connect(target, 'control');
  let lastError: Error | undefined;
  redis.on('error', (error: Error) => {
    lastError = error;
  });
  const ready = await new Promise<boolean>((resolve) => {
    const timer = setTimeout(() => resolve(false), 3000);
    redis.once('ready', () => {
      clearTimeout(timer);
      resolve(true);
    });
    redis.once('end', () => {
      clearTimeout(timer);
      resolve(false);
    });
    redis.on('error', (error: Error) => {
      if (!/NOAUTH|WRONGPASS|NOPERM|ECONNREFUSED|ENOENT|EACCES|ENOTFOUND/.test(error.message)) return;
      clearTimeout(timer);
      resolve(false);
    });
  });
  if (ready) return redis;
  redis.disconnect();
  throw new OperatorError(
    `Redis at ${displayTarget(target)} cannot be used (${lastError?.message ?? 'no answer within 3 s'}): ` +
      `check that it runs and that ${addressVariable(target)} is right.`,
  );
}

/** Answers when the connection is ready, or after `timeoutMs`: whoever waits goes on either way. */
export async function settled(redis: RedisConnection, timeoutMs: number): Promise<void> {
  if (redis.status === 'ready') return;
  await new Promise<void>((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      redis.off('ready', done);
      resolve();
    };
    const timer = setTimeout(done, timeoutMs);
    redis.once('ready', done);
  });
}

/** User, password and certificates for the nodes of a Cluster or behind Sentinels. */
function accessOf(target: ClusterTarget | SentinelTarget): ConnectionOptions {
  return {
    ...(target.username === undefined ? {} : { username: target.username }),
    ...(target.password === undefined ? {} : { password: target.password }),
    ...(target.useTls ? { tls: { ...target.tls } } : {}),
  };
}

function addressOf(target: ServerTarget): ConnectionOptions {
  const url = new URL(target.url);
  const credentials: ConnectionOptions = {};
  if (url.username !== '') credentials.username = decodeURIComponent(url.username);
  if (url.password !== '') credentials.password = decodeURIComponent(url.password);
  if (url.protocol === 'unix:') {
    return { ...credentials, path: decodeURIComponent(url.pathname), db: Number(url.searchParams.get('db') ?? 0) };
  }
  return {
    ...credentials,
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port: Number(url.port || 6379),
    db: Number(url.pathname.slice(1) || 0),
    ...(url.protocol === 'rediss:' ? { tls: { ...target.tls, servername: url.hostname } } : {}),
  };
}
