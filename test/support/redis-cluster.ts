/**
 * A real Redis Cluster on this machine: three primaries and a replica of each, with timeouts as low as they go. Faults
 * are signals to real processes; slots are moved by the steps of the Cluster specification.
 */
import { readFileSync } from 'node:fs';
import { Redis } from 'ioredis';
import { freePort } from './ports.js';
import { type RedisServer, startRedis } from './redis.js';
import { until } from './until.js';

export interface ClusterNode {
  /** `127.0.0.1:port`. */
  readonly name: string;
  readonly id: string;
  /** Of the primary it follows; '' of a primary. */
  readonly primaryId: string;
  /** Of the node's own view: alive and in contact. */
  readonly isUp: boolean;
  /** First and last of each range. */
  readonly slots: readonly (readonly [number, number])[];
}

export interface RedisCluster {
  /** For `TOLLKEEPER_REDIS_CLUSTER`. */
  readonly nodes: string;
  readonly servers: readonly RedisServer[];
  server(name: string): RedisServer;
  /** CLUSTER NODES as a node that is up sees it. */
  view(): Promise<readonly ClusterNode[]>;
  /** The primary that holds the slot. */
  primaryOf(slot: number): Promise<string>;
  /** Answers when every slot has a primary that is up, every node says `cluster_state:ok`, and replicas are in step. */
  healthy(): Promise<void>;
  /** Moves one slot with its keys to another primary, as `redis-cli --cluster reshard` does. */
  moveSlot(slot: number, to: string): Promise<void>;
  stop(): Promise<void>;
}

/** How nodes are entered. */
export interface NodeAccess {
  /** Of `makeCertificates`: nodes speak TLS only, with each other too. */
  readonly certificates: string;
  readonly password: string;
}

/** Starts the six nodes and answers when the cluster is healthy. `args`: of every redis-server. */
export async function startRedisCluster(args: readonly string[] = [], access?: NodeAccess): Promise<RedisCluster> {
  const started = await Promise.all(Array.from({ length: 6 }, () => startNode(args, access)));
  const servers = started.map(({ server }) => server);
  const names = servers.map(({ port }) => `127.0.0.1:${port}`);
  await join(started);

  const server = (name: string): RedisServer => {
    const found = servers[names.indexOf(name)];
    if (found === undefined) throw new Error(`there is no node ${name}`);
    return found;
  };
  // A question to a server that was killed is answered by an error at once, and asked of another one.
  const clients = servers.map(({ port, caFile }) => {
    const options = {
      maxRetriesPerRequest: 0,
      enableOfflineQueue: false,
      commandTimeout: 1000,
      ...(access === undefined ? {} : { password: access.password, tls: { ca: readFileSync(caFile) } }),
    } as const;
    const client = new Redis({ port, host: '127.0.0.1', ...options, retryStrategy: () => 50 });
    client.on('error', () => {});
    return client;
  });
  const view = async (): Promise<readonly ClusterNode[]> => {
    for (const client of clients) {
      const text = await client.cluster('NODES').catch(() => '');
      if (typeof text === 'string' && text !== '') return parseNodes(text);
    }
    throw new Error('no node of the cluster is up');
  };
  const primaryOf = async (slot: number): Promise<string> => {
    const holder = (await view()).find(({ slots }) => slots.some(([first, last]) => first <= slot && slot <= last));
    if (holder === undefined) throw new Error(`nobody holds slot ${slot}`);
    return holder.name;
  };
  const healthy = (): Promise<void> =>
    until(async () => {
      const states = await Promise.all(
        clients.map(async (client) => {
          const replies = await Promise.all([client.cluster('INFO'), client.info('replication')]).catch(
            () => undefined,
          );
          if (replies === undefined) return false;
          const [cluster, replication] = replies;
          const isInStep = /role:master/.test(replication)
            ? /connected_slaves:[1-9]/.test(replication) && /state=online/.test(replication)
            : /master_link_status:up/.test(replication);
          return cluster.includes('cluster_state:ok') && isInStep;
        }),
      );
      return states.every(Boolean) && (await view()).every(({ isUp }) => isUp);
    });
  await healthy();
  return {
    nodes: names.join(','),
    servers,
    server,
    view,
    primaryOf,
    healthy,
    async moveSlot(slot, to) {
      const from = await primaryOf(slot);
      if (from === to) return;
      await migrate(slot, from, to);
      // The others hear of it.
      await until(async () => (await primaryOf(slot)) === to);
    },
    async stop() {
      for (const client of clients) client.disconnect();
      await Promise.all(servers.map((each) => each.stop()));
    },
  };

  async function idOf(name: string): Promise<string> {
    return (await view()).find((node) => node.name === name)?.id ?? '';
  }

  /** The steps of the Redis Cluster specification ("Live reconfiguration"). */
  async function migrate(slot: number, from: string, to: string): Promise<void> {
    const [fromId, toId] = [await idOf(from), await idOf(to)];
    const source = clients[names.indexOf(from)];
    const target = clients[names.indexOf(to)];
    if (source === undefined || target === undefined) throw new Error(`there is no node ${from} or ${to}`);
    await target.cluster('SETSLOT', slot, 'IMPORTING', fromId);
    await source.cluster('SETSLOT', slot, 'MIGRATING', toId);
    const [host = '', port = ''] = to.split(':');
    for (;;) {
      const moving = await source.cluster('GETKEYSINSLOT', slot, 10);
      if (moving.length === 0) break;
      await source.call('MIGRATE', host, port, '', '0', '5000', 'REPLACE', 'KEYS', ...moving);
    }
    await target.cluster('SETSLOT', slot, 'NODE', toId);
    await source.cluster('SETSLOT', slot, 'NODE', toId);
  }
}

async function startNode(
  args: readonly string[],
  access: NodeAccess | undefined,
): Promise<{ server: RedisServer; busPort: number }> {
  const [port, busPort] = [await freePort(), await freePort()];
  const own = ['--cluster-enabled', 'yes', '--cluster-node-timeout', '1000', '--cluster-replica-validity-factor', '0'];
  const replication = ['--repl-diskless-sync-delay', '0', '--repl-ping-replica-period', '1'];
  // Else a primary that is away stops all others too.
  const alone = ['--cluster-require-full-coverage', 'no'];
  const bus = ['--cluster-port', String(busPort)];
  const tls = access === undefined ? [] : ['--tls-cluster', 'yes'];
  const all = [...own, ...bus, ...alone, ...replication, ...tls, ...args];
  return { server: await startRedis({ ...access, port, args: all }), busPort };
}

const slotCount = 16_384;

/** What `redis-cli --cluster create` does, in a third of its time: it sleeps whole seconds between the steps. */
async function join(nodes: readonly { readonly server: RedisServer; readonly busPort: number }[]): Promise<void> {
  const clients = nodes.map(({ server }) => server.client());
  const primaries = clients.slice(0, nodes.length / 2);
  const share = Math.ceil(slotCount / primaries.length);
  await Promise.all(clients.map((client, at) => client.cluster('SET-CONFIG-EPOCH', at + 1)));
  await Promise.all(
    primaries.map((client, at) =>
      client.cluster('ADDSLOTSRANGE', at * share, Math.min((at + 1) * share, slotCount) - 1),
    ),
  );
  // Everybody meets everybody: word of mouth takes longer.
  await Promise.all(
    clients.flatMap((client, at) =>
      nodes
        .slice(at + 1)
        .map(({ server, busPort }) =>
          client.call('CLUSTER', 'MEET', '127.0.0.1', String(server.port), String(busPort)),
        ),
    ),
  );
  await until(async () => {
    const views = await Promise.all(clients.map(async (client) => parseNodes(String(await client.cluster('NODES')))));
    return views.every((view) => view.length === nodes.length && view.every(({ isUp }) => isUp));
  });
  const ids = await Promise.all(primaries.map((client) => client.cluster('MYID')));
  const replicas = clients.slice(primaries.length);
  await Promise.all(replicas.map((client, at) => client.cluster('REPLICATE', String(ids[at]))));
  for (const client of clients) client.disconnect();
}

/** Lines of CLUSTER NODES: id, address, flags, primary, ping, pong, epoch, link, slots. */
function parseNodes(text: string): ClusterNode[] {
  return text
    .trim()
    .split('\n')
    .map((line) => {
      const [id = '', address = '', flags = '', primaryId = '', , , , link = '', ...slots] = line.split(' ');
      return {
        id,
        name: address.replace(/@.*$/, ''),
        primaryId: primaryId === '-' ? '' : primaryId,
        isUp: link === 'connected' && !/fail|handshake/.test(flags),
        slots: slots
          .filter((range) => /^\d/.test(range))
          .map((range) => {
            const [first, last = first] = range.split('-').map(Number);
            return [first, last] as [number, number];
          }),
      };
    });
}
