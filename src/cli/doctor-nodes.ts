/** What `tollkeeper doctor` asks where several servers stand in for each other: who they are, and whether they could. */
import type { Redis } from 'ioredis';
import { connect } from '../redis/connect.js';
import type { ClusterTarget, HostPort, RedisConnection, SentinelTarget } from '../redis/target.js';
import { type Check, fail, ok, warn } from './doctor-check.js';

interface CheckedNode {
  /** `host:port`. */
  readonly name: string;
  readonly isPrimary: boolean;
  /** On its way; whoever checks the node closes it. */
  readonly redis: Redis;
}

export interface NodeGroup {
  /** Checks of all nodes together. */
  readonly shared: readonly Check[];
  readonly nodes: readonly CheckedNode[];
}

const answersWithinMs = 2000;

/** Whether the server answers, once it is connected. */
export async function answers(redis: Redis): Promise<boolean> {
  if (redis.status !== 'ready') {
    const isReady = await new Promise<boolean>((resolve) => {
      const timer = setTimeout(() => resolve(false), answersWithinMs);
      redis.once('ready', () => {
        clearTimeout(timer);
        resolve(true);
      });
    });
    if (!isReady) return false;
  }
  return redis.ping().then(
    () => true,
    () => false,
  );
}

/** One line where all nodes agree, else one for each that is not ok. */
export function joined(nodes: readonly { readonly name: string; readonly checks: readonly Check[] }[]): Check[] {
  const names = [...new Set(nodes.flatMap(({ checks }) => checks.map(({ check }) => check)))];
  return names.flatMap((name) => {
    const found = nodes.flatMap((node) => {
      const check = node.checks.find((each) => each.check === name);
      return check === undefined ? [] : [{ node: node.name, ...check }];
    });
    const bad = found.filter(({ status }) => status !== 'ok');
    const good = found.length - bad.length;
    const first = found.find(({ status }) => status === 'ok');
    const wording = found.every((each) => each.found === first?.found) ? first?.found : `${first?.found}, or alike`;
    return [
      ...(good > 0 ? [ok(name, `${wording} (${good} of ${found.length} nodes)`)] : []),
      ...bad.map(({ node, ...check }) => ({ ...check, found: `${node}: ${check.found}` })),
    ];
  });
}

/** The nodes that a Cluster names, and whether it serves every slot. */
export async function clusterGroup(redis: RedisConnection, target: ClusterTarget): Promise<NodeGroup> {
  const check = 'redis cluster';
  let lines: string[];
  let state: string;
  try {
    lines = String(await redis.cluster('NODES'))
      .trim()
      .split('\n');
    state = await redis.cluster('INFO');
  } catch (error) {
    const todo = 'Allow this Redis user +cluster|nodes, +cluster|info and +cluster|slots.';
    return { shared: [warn(check, `not told: ${(error as Error).message}`, todo)], nodes: [] };
  }
  const nodes = lines.map(nodeOf).filter(({ flags }) => !flags.includes('noaddr') && !flags.includes('handshake'));
  const primaries = nodes.filter(({ hasSlots }) => hasSlots);
  const alone = primaries.filter(({ id }) => !nodes.some((node) => node.primaryId === id && !isDown(node.flags)));
  const size = `${primaries.length} primaries, ${nodes.length - primaries.length} replicas`;
  return {
    shared: [
      state.includes('cluster_state:ok')
        ? ok(check, `${size}, every slot is served`)
        : fail(check, `${size}; not every slot is served`, 'See CLUSTER INFO and CLUSTER NODES, and mend the Cluster.'),
      ...(alone.length === 0
        ? []
        : [
            warn(
              check,
              `no replica in service: ${alone.map(({ name }) => name).join(', ')}`,
              'Add one: until then the loss of this primary is the loss of its tokens, and no change is confirmed.',
            ),
          ]),
    ],
    nodes: nodes.map(({ name, hasSlots }) => ({ name, isPrimary: hasSlots, redis: openNode(target, name) })),
  };
}

/** By default the loss of one primary stops all the others too. */
export async function checkCoverage(redis: Redis): Promise<Check[]> {
  const check = 'redis coverage';
  const reply = await redis.config('GET', 'cluster-require-full-coverage').catch(() => []);
  const value = (reply as string[])[1];
  if (value === 'no') return [ok(check, 'each primary serves for itself')];
  const found =
    value === undefined ? 'cluster-require-full-coverage not told' : `cluster-require-full-coverage ${value}`;
  const todo = 'Set "cluster-require-full-coverage no": else all tenants get 503 while one primary is away.';
  return [warn(check, found, todo)];
}

/**
 * The primary and the replicas that most Sentinels name, whether they are enough to elect another one, and each Sentinel
 * that gives no answer or names another server.
 */
export async function sentinelGroup(target: SentinelTarget): Promise<NodeGroup> {
  const check = 'redis sentinels';
  const asked = await Promise.all(target.sentinels.map((sentinel) => askSentinel(target, sentinel)));
  const silent = asked.filter((each) => each.view === undefined);
  const views = asked.flatMap(({ name, view }) => (view === undefined ? [] : [{ name, ...view }]));
  const missing = silent.map(({ name, failure }) =>
    failure === undefined
      ? fail(check, `${name} gives no answer`, 'Start it, and see that redisSentinels is right.')
      : warn(
          check,
          `${name}: not told: ${failure}`,
          'Allow this user +sentinel on it, and see that redisSentinelName and redisSentinelPassword are right.',
        ),
  );
  const named = mostNamed(views.map(({ primary }) => primary));
  if (named === undefined) return { shared: missing, nodes: [] };
  const agreeing = views.filter(({ primary }) => primary === named);
  const [view] = agreeing as [(typeof agreeing)[number]];
  const others = views
    .filter(({ primary }) => primary !== named)
    .map(({ name, primary }) =>
      warn(
        check,
        `${name} names ${primary}, ${agreeing.length} of ${asked.length} name ${named}`,
        `See SENTINEL MASTER ${target.name} on it: it watches another group, or missed a failover; SENTINEL RESET ` +
          `${target.name} there makes it look again. Nobody follows it while most name another.`,
      ),
    );
  const nodes = [named, ...view.replicas].map((name, at) => ({
    name,
    isPrimary: at === 0,
    redis: openNode(target, name),
  }));
  return {
    shared: [
      agreeing.length * 2 > asked.length
        ? quorumCheck(check, view)
        : fail(
            check,
            `${agreeing.length} of ${asked.length} name the same primary (${named})`,
            'See that more than half of them run and watch the same group: a server that few name is not to be trusted.',
          ),
      ...missing,
      ...others,
      ...(await checkLag((nodes[0] as CheckedNode).redis, view.downAfterMs)),
    ],
    nodes,
  };
}

/** What one Sentinel says of the group. */
interface SentinelView {
  /** `host:port`. */
  readonly primary: string;
  readonly replicas: readonly string[];
  /** Sentinels it knows, itself included. */
  readonly known: number;
  readonly downAfterMs: number;
  /** Why no primary could be elected; '' when one could. */
  readonly quorumFault: string;
}

interface AskedSentinel {
  readonly name: string;
  readonly view?: SentinelView;
  /** Its own word, when it would not say; absent when it did not answer. */
  readonly failure?: string;
}

async function askSentinel(target: SentinelTarget, { host, port }: HostPort): Promise<AskedSentinel> {
  const name = `${host}:${port}`;
  const sentinel = openSentinel(target, name);
  let refusal = '';
  sentinel.on('error', (error: Error) => {
    if (/NOAUTH|WRONGPASS|NOPERM/.test(error.message)) refusal = error.message;
  });
  try {
    if (!(await answers(sentinel))) return refusal === '' ? { name } : { name, failure: refusal };
    const primary = fieldsOf(await sentinel.call('SENTINEL', 'MASTER', target.name));
    const replicas = (await sentinel.call('SENTINEL', 'REPLICAS', target.name)) as unknown[];
    const quorum = await sentinel.call('SENTINEL', 'CKQUORUM', target.name).catch((error: Error) => error);
    return {
      name,
      view: {
        primary: addressIn(primary),
        replicas: replicas.map((reply) => addressIn(fieldsOf(reply))),
        known: Number(primary.get('num-other-sentinels')) + 1,
        downAfterMs: Number(primary.get('down-after-milliseconds')),
        quorumFault: quorum instanceof Error ? quorum.message : '',
      },
    };
  } catch (error) {
    return { name, failure: (error as Error).message };
  } finally {
    sentinel.disconnect();
  }
}

function quorumCheck(check: string, { quorumFault, known }: SentinelView): Check {
  if (quorumFault === '') return ok(check, `enough to elect a primary (${known} are known)`);
  return fail(check, quorumFault, 'Start the missing Sentinels: nobody takes over for a primary that fails.');
}

function addressIn(fields: ReadonlyMap<string, string>): string {
  return `${fields.get('ip')}:${fields.get('port')}`;
}

/** What most of them name, of equals the first; undefined of none. */
function mostNamed(names: readonly string[]): string | undefined {
  const votes = (name: string): number => names.filter((other) => other === name).length;
  return names.toSorted((one, other) => votes(other) - votes(one))[0];
}

/** A primary that is cut off must have stopped before the others may have another one. */
async function checkLag(primary: Redis, downAfterMs: number): Promise<Check[]> {
  if (!(await answers(primary))) return [];
  const reply = await primary.config('GET', 'min-replicas-max-lag').catch(() => []);
  const lagS = Number((reply as string[])[1] ?? Number.NaN);
  if (!(lagS * 1000 >= downAfterMs)) return [];
  const found = `min-replicas-max-lag ${lagS} s, down-after-milliseconds ${downAfterMs}`;
  const todo =
    'Make min-replicas-max-lag the shorter one: a primary that is cut off then stops before another one is elected.';
  return [warn('redis sentinels', found, todo)];
}

interface ClusterLine {
  readonly id: string;
  readonly name: string;
  readonly flags: readonly string[];
  readonly primaryId: string;
  readonly hasSlots: boolean;
}

/** A line of CLUSTER NODES: id, address, flags, primary, ping, pong, epoch, link, slots. */
function nodeOf(line: string): ClusterLine {
  const [id = '', address = '', flags = '', primaryId = '', , , , , ...slots] = line.split(' ');
  return { id, name: address.replace(/@.*$/, ''), flags: flags.split(','), primaryId, hasSlots: slots.length > 0 };
}

function isDown(flags: readonly string[]): boolean {
  return flags.includes('fail') || flags.includes('fail?');
}

/** Sentinel answers a mapping as a list of names and values. */
function fieldsOf(reply: unknown): ReadonlyMap<string, string> {
  const list = (reply as unknown[]).map(String);
  return new Map(list.flatMap((name, at) => (at % 2 === 0 ? [[name, list[at + 1] ?? ''] as const] : [])));
}

function openNode(target: ClusterTarget | SentinelTarget, name: string): Redis {
  return openAt(target, name, target.useTls, target.username, target.password);
}

function openSentinel(target: SentinelTarget, name: string): Redis {
  return openAt(target, name, target.useTls, target.sentinelUsername, target.sentinelPassword);
}

function openAt(
  { tls, commandTimeoutMs }: ClusterTarget | SentinelTarget,
  name: string,
  useTls: boolean,
  username = '',
  password = '',
): Redis {
  const colon = name.lastIndexOf(':');
  const host = name.slice(0, colon);
  const url = new URL(
    `${useTls ? 'rediss' : 'redis'}://${host.includes(':') ? `[${host}]` : host}${name.slice(colon)}`,
  );
  url.username = encodeURIComponent(username);
  url.password = encodeURIComponent(password);
  return connect({ url: url.href, commandTimeoutMs, tls }, 'control');
}
