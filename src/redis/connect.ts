/**
 * Connections to Redis, one purpose each. ioredis' defaults do not fit a request path (a frozen server hangs every
 * request, a lost reply runs a command twice), so every option that decides behaviour in a fault is set here.
 */
import { Redis, type RedisOptions } from 'ioredis';
import { OperatorError } from '../core/failure.js';

/** What a connection is for decides its deadline; each purpose has a socket of its own. */
export type ConnectionPurpose = 'admission' | 'log' | 'changes' | 'control';

export interface RedisTarget {
  /** `redis://[user:password@]host:port[/db]`, `rediss://…` (TLS) or `unix:///path[?db=n]`. */
  readonly url: string;
  /** Deadline of one command on the admission connection, ms. */
  readonly commandTimeoutMs: number;
  readonly tls?: { readonly ca?: string; readonly cert?: string; readonly key?: string } | undefined;
}

/** ioredis' own, without the one property whose type excludes itself under exact optional properties. */
type ConnectionOptions = Omit<RedisOptions, 'replyMapping'>;

const slowCommandTimeoutMs = 2000;

/** Opens a connection (at once, in the background). Errors are for the caller's `error` listener, never thrown. */
export function connect(target: RedisTarget, purpose: ConnectionPurpose): Redis {
  const options: ConnectionOptions = {
    ...addressOf(target),
    connectionName: `tollkeeper-${purpose}`,
    connectTimeout: 1000,
    // A command may run once or not at all, and the caller hears which within its deadline.
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    enableOfflineQueue: purpose === 'changes',
    // Admission keeps its own deadline and reads its socket once more before it gives up after a stall of this process;
    // a timer here would reject answers that lie in the socket already. This one is for a server that never answers.
    commandTimeout: purpose === 'admission' ? target.commandTimeoutMs * 3 : slowCommandTimeoutMs,
    retryStrategy: (attempt) => Math.min(20 * 2 ** Math.min(attempt, 10), 500) + Math.floor(Math.random() * 20),
    // A replica that was promoted away from under us: find the new primary.
    reconnectOnError: (error) => (error.message.startsWith('READONLY') ? 1 : false),
    enableReadyCheck: true,
  };
  const redis = new Redis(options);
  // Without a listener ioredis prints; state is read from `status` and from rejected commands.
  redis.on('error', () => {});
  return redis;
}

/**
 * Opens a connection for a command of a person and waits until it is ready.
 * @throws OperatorError with the server's address (never its password) and what to check.
 */
export async function connectOrFail(target: RedisTarget): Promise<Redis> {
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
    `Redis at ${displayAddress(target.url)} cannot be used (${lastError?.message ?? 'no answer within 3 s'}): ` +
      'check that it runs and that TOLLKEEPER_REDIS_URL is right.',
  );
}

/** Answers when the connection is ready, or after `timeoutMs`: whoever waits goes on either way. */
export async function settled(redis: Redis, timeoutMs: number): Promise<void> {
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

/** The address without user and password, for messages and logs. */
export function displayAddress(url: string): string {
  const parsed = new URL(url);
  return parsed.protocol === 'unix:' ? `unix:${parsed.pathname}` : `${parsed.protocol}//${parsed.host}`;
}

function addressOf(target: RedisTarget): ConnectionOptions {
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
