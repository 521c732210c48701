/** What `tollkeeper doctor` asks of a Redis. A user that may not ask something gets a warning, never a crash. */
import { logRedisSettings, minReplicas, redisSettings } from '../config/require.js';
import type { Config } from '../config/schema.js';
import { OperatorError } from '../core/failure.js';
import { connectOrFail } from '../redis/connect.js';
import { readInstallation } from '../redis/meta.js';
import { displayTarget, type RedisConnection, type RedisTarget } from '../redis/target.js';
import { type Check, fail, ok, warn } from './doctor-check.js';
import { checkMasterKey } from './doctor-master-key.js';
import { answers, checkCoverage, clusterGroup, joined, type NodeGroup, sentinelGroup } from './doctor-nodes.js';

/** Beyond these, in ms, limits and expiry are decided on another time than the one people see. */
const clockWarnMs = 2000;
const clockFailMs = 60_000;

/** Checks the Redis of tokens and, when it is another, the one of the access log. */
export async function checkRedis(config: Config): Promise<Check[]> {
  const checks = await withRedis(
    'redis',
    () => redisSettings(config),
    async (redis, target) => [
      ...(await checkServers(redis, target, config)),
      await checkInstallation(redis),
      await checkSecrets(redis, config),
    ],
    // Who names which server is what there is to know then.
    async (target) => (target.kind === 'sentinel' ? checkNodes(await sentinelGroup(target), target, config) : []),
  );
  if (config.logRedisUrl === undefined) return checks;
  const ofLog = await withRedis(
    'log redis',
    () => logRedisSettings(config),
    async (redis) => {
      return [checkVersion('log redis version', await readInfo(redis))];
    },
  );
  return [...checks, ...ofLog];
}

async function withRedis(
  name: string,
  settings: () => RedisTarget,
  checks: (redis: RedisConnection, target: RedisTarget) => Promise<Check[]>,
  /** What else can be looked at when no connection can be used. */
  otherwise: (target: RedisTarget) => Promise<Check[]> = () => Promise.resolve([]),
): Promise<Check[]> {
  let redis: RedisConnection;
  let target: RedisTarget | undefined;
  try {
    target = settings();
    redis = await connectOrFail(target);
  } catch (error) {
    if (!(error instanceof OperatorError)) throw error;
    const unusable = fail(name, 'cannot be used', error.message);
    return target === undefined ? [unusable] : [unusable, ...(await otherwise(target))];
  }
  try {
    return [ok(name, displayTarget(target)), ...(await checks(redis, target))];
  } finally {
    redis.disconnect();
  }
}

async function checkServers(redis: RedisConnection, target: RedisTarget, config: Config): Promise<Check[]> {
  const needed = minReplicas(config);
  const isOneServer = target.kind !== 'cluster' && target.kind !== 'sentinel';
  if (isOneServer) return checkServer(redis, needed, minReplicasAdvice, replicaAdvice);
  const group = target.kind === 'cluster' ? await clusterGroup(redis, target) : await sentinelGroup(target);
  return checkNodes(group, target, config);
}

async function checkNodes({ shared, nodes }: NodeGroup, target: RedisTarget, config: Config): Promise<Check[]> {
  const needed = minReplicas(config);
  const ofNodes = await Promise.all(
    nodes.map(async ({ name, isPrimary, redis: node }) => {
      try {
        if (!(await answers(node))) {
          const todo = 'Start it, or mend the network: while it is away there is no copy that takes over for it.';
          return { name, checks: [fail('redis nodes', 'gives no answer', todo)] };
        }
        // A Cluster's primary that is cut off stops by itself.
        const advice = target.kind === 'cluster' ? '' : minReplicasAdvice;
        const checks = isPrimary
          ? await checkServer(node, needed, advice, namedReplicaAdvice)
          : await checkReplica(node);
        const coverage = target.kind === 'cluster' ? await checkCoverage(node) : [];
        return { name, checks: [ok('redis nodes', 'answers'), ...checks, ...coverage] };
      } finally {
        node.disconnect();
      }
    }),
  );
  return [...shared, ...joined(ofNodes)];
}

const minReplicasAdvice =
  'Set "min-replicas-to-write 1": a primary that is cut off then stops taking changes that get lost.';

const replicaAdvice = 'Point TOLLKEEPER_REDIS_URL at the primary: replicas refuse writes.';
const namedReplicaAdvice =
  'It is named as the primary and is none: see SENTINEL MASTER on each Sentinel; a failover may be under way, or they watch ' +
  'the wrong server (SENTINEL REMOVE, then SENTINEL MONITOR).';

/**
 * Everything of a server that takes writes. `advice`: about min-replicas-to-write 0; '' where it is right.
 * `ifReplica`: what to do where it is a replica.
 */
async function checkServer(
  redis: RedisConnection,
  needed: number,
  advice: string,
  ifReplica: string,
): Promise<Check[]> {
  const info = await readInfo(redis);
  return [
    checkVersion('redis version', info),
    await checkScripts(redis),
    await checkPersistence(redis, info),
    checkEviction(info),
    await checkFreeing(redis),
    await checkReplicas(redis, info, needed, advice, ifReplica),
    await checkClock(redis),
  ];
}

/** What must hold of a replica on the day on which it is the primary. */
async function checkReplica(redis: RedisConnection): Promise<Check[]> {
  const info = await readInfo(redis);
  return [
    checkVersion('redis version', info),
    await checkPersistence(redis, info),
    checkEviction(info),
    await checkClock(redis),
  ];
}

async function checkSecrets(redis: RedisConnection, config: Config): Promise<Check> {
  const check = await asked(checkMasterKey(redis, config));
  return isRefusal(check) ? notTold('masterKey', check, 'to read the keys tk:*') : check;
}

type Info = ReadonlyMap<string, string> | Refusal;

/** Why Redis would not say; its own words, which hold no secret. */
interface Refusal {
  readonly refusal: string;
}

async function readInfo(redis: RedisConnection): Promise<Info> {
  const reply = await asked(redis.info());
  if (typeof reply !== 'string') return reply;
  return new Map(
    reply.split('\r\n').flatMap((line) => {
      const [name = '', ...value] = line.split(':');
      return value.length === 0 ? [] : [[name, value.join(':')] as const];
    }),
  );
}

async function asked<T>(reply: Promise<T>): Promise<T | Refusal> {
  try {
    return await reply;
  } catch (error) {
    return { refusal: (error as Error).message };
  }
}

function isRefusal(value: unknown): value is Refusal {
  return typeof value === 'object' && value !== null && 'refusal' in value;
}

function notTold(check: string, { refusal }: Refusal, permission: string): Check {
  return warn(check, `not told: ${refusal}`, `Allow this Redis user ${permission}, or check it by hand.`);
}

/** One setting of the server; '' when it does not know it. */
async function setting(redis: RedisConnection, name: string): Promise<string | Refusal> {
  const reply = await asked(redis.config('GET', name));
  return isRefusal(reply) ? reply : (reply[1] ?? '');
}

function checkVersion(check: string, info: Info): Check {
  if (isRefusal(info)) return notTold(check, info, '+info');
  const version = info.get('redis_version') ?? '';
  const valkey = info.get('valkey_version');
  const found = valkey === undefined ? version : `Valkey ${valkey} (as Redis ${version})`;
  if (Number.parseInt(version, 10) >= 7) return ok(check, found);
  return fail(check, found || 'unknown', 'Use Redis 7.0 or newer, or Valkey.');
}

async function checkScripts(redis: RedisConnection): Promise<Check> {
  const reply = await asked(redis.eval("return redis.call('TIME')[1]", 0));
  if (!isRefusal(reply)) return ok('redis scripts', 'run');
  const todo = 'Allow this Redis user +eval, +evalsha and +time: every decision is a script.';
  return fail('redis scripts', reply.refusal, todo);
}

async function checkPersistence(redis: RedisConnection, info: Info): Promise<Check> {
  const check = 'redis persistence';
  if (isRefusal(info)) return notTold(check, info, '+info');
  if (info.get('aof_last_write_status') === 'err' || info.get('rdb_last_bgsave_status') === 'err') {
    return fail(
      check,
      'the last write to disk failed',
      'Free space or mend the disk of Redis; its log names the cause.',
    );
  }
  if (info.get('aof_enabled') !== '1') {
    const todo = 'Set "appendonly yes": a crash of Redis brings back what was revoked since the last snapshot.';
    // Managed services often offer replicas instead of an append-only file.
    const copies = Number(info.get('connected_slaves') ?? 0);
    return copies > 0 ? warn(check, `appendonly no, ${copies} replicas`, todo) : fail(check, 'appendonly no', todo);
  }
  const appendfsync = await setting(redis, 'appendfsync');
  if (isRefusal(appendfsync)) {
    return warn(
      check,
      `appendonly yes; appendfsync not told: ${appendfsync.refusal}`,
      'Allow this Redis user +config|get, or see that appendfsync is everysec or always.',
    );
  }
  const found = `appendonly yes, appendfsync ${appendfsync}`;
  if (appendfsync !== 'no') return ok(check, found);
  return warn(
    check,
    found,
    'Set "appendfsync everysec" or "always": a power failure loses more than a second of changes.',
  );
}

function checkEviction(info: Info): Check {
  const check = 'redis eviction';
  if (isRefusal(info)) return notTold(check, info, '+info');
  const policy = info.get('maxmemory_policy');
  const maxmemory = Number(info.get('maxmemory') ?? 0);
  if (policy === undefined) {
    return warn(check, 'maxmemory-policy not told', 'See that maxmemory-policy is noeviction.');
  }
  if (policy !== 'noeviction') {
    const todo = 'Set "maxmemory-policy noeviction": any other evicts tokens, counters and marks of used signatures.';
    return maxmemory === 0 ? warn(check, `${policy}, but no maxmemory`, todo) : fail(check, policy, todo);
  }
  if (maxmemory === 0) {
    const todo =
      'Set "maxmemory", e.g. to two thirds of the machine: without it Redis grows until the kernel ends it, and nothing warns before.';
    return warn(check, `${policy}, but no maxmemory`, todo);
  }
  const usedShare = Number(info.get('used_memory') ?? 0) / maxmemory;
  if (usedShare <= 0.9) return ok(check, policy);
  const todo =
    'Raise maxmemory or shorten logRetentionDays: a full Redis refuses new tokens and log entries, which are dropped in the ' +
    'end; requests go on.';
  return warn(check, `${policy}, memory ${Math.round(usedShare * 100)} % used`, todo);
}

async function checkFreeing(redis: RedisConnection): Promise<Check> {
  const check = 'redis freeing';
  const name = 'lazyfree-lazy-expire';
  const value = await setting(redis, name);
  if (isRefusal(value)) return notTold(check, value, '+config|get');
  if (value === 'yes') return ok(check, `${name} yes`);
  const todo = `Set "${name} yes": else every request waits while a day of the access log that has expired is freed.`;
  return warn(check, `${name} ${value || 'unknown'}`, todo);
}

async function checkReplicas(
  redis: RedisConnection,
  info: Info,
  needed: number,
  advice: string,
  ifReplica: string,
): Promise<Check> {
  const check = 'redis replicas';
  if (isRefusal(info)) return notTold(check, info, '+info');
  if (info.get('role') === 'slave') {
    return fail(check, 'this Redis is a replica', ifReplica);
  }
  const connected = Number(info.get('connected_slaves') ?? 0);
  if (connected < needed) {
    const todo =
      'Connect the missing replicas or lower redisMinReplicas: until then every change of a token is refused.';
    return fail(check, `${connected} connected, redisMinReplicas is ${needed}`, todo);
  }
  if (connected === 0) return ok(check, 'none');
  const minimum = await setting(redis, 'min-replicas-to-write');
  if (isRefusal(minimum)) {
    const todo = 'Allow this Redis user +config|get, or see that min-replicas-to-write is 1 or more.';
    return warn(check, `${connected} connected; min-replicas-to-write not told: ${minimum.refusal}`, todo);
  }
  const found = `${connected} connected, min-replicas-to-write ${minimum}`;
  return minimum !== '0' || advice === '' ? ok(check, found) : warn(check, found, advice);
}

async function checkClock(redis: RedisConnection): Promise<Check> {
  const check = 'redis clock';
  const before = Date.now();
  const reply = await asked(redis.time());
  const after = Date.now();
  if (isRefusal(reply)) return notTold(check, reply, '+time');
  const redisMs = Number(reply[0]) * 1000 + Math.floor(Number(reply[1]) / 1000);
  // The reply was made at some moment in between: only what lies outside is a difference.
  const aheadMs = redisMs > after ? redisMs - after : Math.min(0, redisMs - before);
  const found =
    aheadMs === 0 ? 'the same as here' : `${Math.abs(aheadMs)} ms ${aheadMs > 0 ? 'ahead of' : 'behind'} here`;
  if (Math.abs(aheadMs) < clockWarnMs) return ok(check, found);
  const todo = 'Set both clocks by NTP: limits, expiry and signatures are decided by time.';
  return Math.abs(aheadMs) < clockFailMs ? warn(check, found, todo) : fail(check, found, todo);
}

async function checkInstallation(redis: RedisConnection): Promise<Check> {
  const check = 'tollkeeper data';
  try {
    const installation = await readInstallation(redis);
    if (installation !== null) return ok(check, `installation ${installation.installation}`);
    return warn(
      check,
      'none',
      'Create the first tenant (tollkeeper tenant create SLUG --name NAME). If there were tenants before, this Redis ' +
        'has lost its data or is another one: restore it.',
    );
  } catch (error) {
    if (error instanceof OperatorError) return fail(check, 'not usable', error.message);
    const { message } = error as Error;
    return fail(check, `not told: ${message}`, 'Allow this Redis user to read and write the keys tk:* and log:*.');
  }
}
