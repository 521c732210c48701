/**
 * A primary with two replicas, watched by three Sentinels, all real processes on this machine with timeouts as low as
 * they go. Replicas and Sentinels reach the first primary through a proxy that can cut it off from them.
 */
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { type FaultProxy, startFaultProxy } from './fault-proxy.js';
import { freePort } from './ports.js';
import { endProcess, spawnTied } from './process.js';
import { type RedisServer, redisServerProgram, startRedis, tlsSettings } from './redis.js';
import { until } from './until.js';

export interface SentinelGroup {
  /** For `TOLLKEEPER_REDIS_SENTINELS`. */
  readonly sentinels: string;
  /** For `TOLLKEEPER_REDIS_SENTINEL_NAME`. */
  readonly name: string;
  readonly servers: readonly RedisServer[];
  /** Between the first server, which is the primary at the start, and everybody else. */
  readonly link: FaultProxy;
  /** The server that more than half of the Sentinels name, once they agree. */
  primary(): Promise<RedisServer>;
  /**
   * Answers when the Sentinels have elected another primary than this server.
   * @throws Error with what they say, after two minutes in which they could act. A Sentinel that got no time for 2 s acts
   *   on nothing for 30 s (TILT mode, see redis.io): those do not count.
   */
  elected(old: RedisServer): Promise<void>;
  /** Brings a killed server back, without its data, as a replica of the primary of this moment. */
  rejoin(server: RedisServer): Promise<void>;
  /** Answers when all Sentinels name a primary that is one, no failover is under way, and all others follow it. */
  healthy(): Promise<void>;
  /** Starts a Sentinel that stands alone and names another server by the group's name; answers its address. */
  startStranger(primaryPort: number): Promise<string>;
  stop(): Promise<void>;
}

const groupName = 'tollkeeper';

/** How servers and Sentinels are entered. */
export interface SentinelAccess {
  /** Of {@link makeCertificates}: everything speaks TLS only. */
  readonly certificates: string;
  readonly password: string;
  readonly sentinelPassword: string;
}

/**
 * Starts six processes and answers when the group is healthy. `args`: of every redis-server. `downAfterMs`: how long a
 * server may be silent before the Sentinels take it for dead; 1 s is soon enough to elect on a machine that stands still.
 */
export async function startSentinelGroup(
  args: readonly string[] = [],
  access?: SentinelAccess,
  downAfterMs = 1000,
): Promise<SentinelGroup> {
  const dir = mkdtempSync(join(tmpdir(), 'tk-sentinel-'));
  const ports = [await freePort(), await freePort(), await freePort()];
  const [primaryPort = 0] = ports;
  const link = await startFaultProxy({ port: primaryPort });
  const known = [link.port, ...ports.slice(1)];
  const common = ['--repl-diskless-sync-delay', '0', '--repl-ping-replica-period', '1', ...args];
  const servers = await Promise.all(
    ports.map((port, at) => {
      const follows = at === 0 ? [] : ['--replicaof', '127.0.0.1', String(link.port)];
      const own = access === undefined ? {} : { certificates: access.certificates, password: access.password };
      return startRedis({ ...own, port, args: [...common, '--replica-announce-port', String(known[at]), ...follows] });
    }),
  );
  const clients = servers.map((server) => server.client());
  const isFollowed = async (at: number): Promise<boolean> => {
    const primary = clients[at];
    if (primary?.status !== 'ready') return false;
    const info = await primary.info('replication');
    return /role:master/.test(info) && (info.match(/state=online/g) ?? []).length === servers.length - 1;
  };
  // Sentinels ask the primary for its replicas when they start, and then every 10 s. One that they do not know follows
  // nobody after a failover, and the new primary, without a replica, takes no writes.
  await until(() => isFollowed(0));
  const sentinelPorts = [await freePort(), await freePort(), await freePort()];
  const sentinels = await Promise.all(
    sentinelPorts.map((port) => startSentinel(dir, port, link.port, downAfterMs, access)),
  );
  const asked = sentinelPorts.map((port) => new Redis({ port, host: '127.0.0.1', ...clientAccess(access) }));
  for (const client of asked) client.on('error', () => {});

  /** What each Sentinel says; one that does not answer says nothing. */
  const ask = async (...args: readonly string[]): Promise<unknown[]> => {
    const [subcommand = '', ...rest] = args;
    return Promise.all(asked.map((client) => client.call('SENTINEL', subcommand, ...rest).catch(() => '')));
  };
  /** What each says of itself. */
  const inform = (): Promise<string[]> => Promise.all(asked.map((client) => client.info('sentinel').catch(() => '')));
  const primaryAt = async (): Promise<number> => {
    const answers = await ask('GET-MASTER-ADDR-BY-NAME', groupName);
    const named = answers.map((answer) => known.indexOf(Number((answer as string[])[1])));
    return named.find((at) => named.filter((other) => other === at).length > asked.length / 2) ?? -1;
  };
  const healthy = (): Promise<void> =>
    until(async () => {
      const at = await primaryAt();
      if (!(await isFollowed(at))) return false;
      const quorums = await ask('CKQUORUM', groupName);
      const views = await ask('MASTER', groupName);
      const replicas = await ask('REPLICAS', groupName);
      return (
        replicas.every((named) => Array.isArray(named) && named.length === servers.length - 1) &&
        !/s_down|o_down|disconnected/.test(String(replicas)) &&
        quorums.every((text) => String(text).startsWith('OK 3')) &&
        // A Sentinel whose failover is not over would name a dead server, should the promoted one die now.
        views.every((view) => !String(view).includes('failover_in_progress') && String(view).includes(`,${known[at]},`))
      );
    });
  await healthy();
  return {
    sentinels: sentinelPorts.map((port) => `127.0.0.1:${port}`).join(','),
    name: groupName,
    servers,
    link,
    async primary() {
      let found: RedisServer | undefined;
      await until(async () => {
        found = servers[await primaryAt()];
        return found !== undefined;
      });
      return found as RedisServer;
    },
    async elected(old) {
      const actsMaxMs = 120_000;
      let actedMs = 0;
      for (let lookedAtMs = performance.now(); ; ) {
        const found = servers[await primaryAt()];
        if (found !== undefined && found !== old) return;
        const isTilted = (await inform()).some((text) => /sentinel_tilt:1/.test(text));
        const nowMs = performance.now();
        if (!isTilted) actedMs += nowMs - lookedAtMs;
        lookedAtMs = nowMs;
        if (actedMs > actsMaxMs) {
          const views = await ask('MASTER', groupName);
          throw new Error(`no other primary was elected in ${actsMaxMs} ms; the Sentinels say:\n${views.join('\n')}`);
        }
        await delay(20);
      }
    },
    healthy,
    async startStranger(primaryPort) {
      const port = await freePort();
      sentinels.push(await startSentinel(dir, port, primaryPort, downAfterMs, access));
      return `127.0.0.1:${port}`;
    },
    async rejoin(server) {
      const at = await primaryAt();
      await server.restart({ keepData: false });
      // Sentinels would tell it too, some eight seconds later.
      const client = server.client();
      await client.replicaof('127.0.0.1', known[at] ?? 0);
      client.disconnect();
    },
    async stop() {
      for (const client of asked) client.disconnect();
      await Promise.all(sentinels.map((child) => endProcess(child, 'SIGKILL')));
      await Promise.all(servers.map((server) => server.stop()));
      await link.stop();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

function clientAccess(access: SentinelAccess | undefined): { password?: string; tls?: { ca: Buffer } } {
  if (access === undefined) return {};
  return { password: access.sentinelPassword, tls: { ca: readFileSync(join(access.certificates, 'ca.pem')) } };
}

async function startSentinel(
  dir: string,
  port: number,
  primaryPort: number,
  downAfterMs: number,
  access: SentinelAccess | undefined,
): Promise<ChildProcess> {
  const file = join(dir, `sentinel-${port}.conf`);
  const tls = access === undefined ? {} : tlsSettings(access.certificates, port);
  const settings = [
    `port ${access === undefined ? port : 0}`,
    ...Object.entries(tls).map(([name, value]) => `${name} ${value}`),
    'bind 127.0.0.1',
    `dir ${dir}`,
    `sentinel monitor ${groupName} 127.0.0.1 ${primaryPort} 2`,
    `sentinel down-after-milliseconds ${groupName} ${downAfterMs}`,
    `sentinel failover-timeout ${groupName} 3000`,
    `sentinel parallel-syncs ${groupName} 2`,
    ...(access === undefined
      ? []
      : [
          `requirepass ${access.sentinelPassword}`,
          `sentinel sentinel-pass ${access.sentinelPassword}`,
          `sentinel auth-pass ${groupName} ${access.password}`,
        ]),
  ];
  writeFileSync(file, `${settings.join('\n')}\n`);
  const child = spawnTied(redisServerProgram(), [file, '--sentinel'], { stdio: ['ignore', 'pipe', 'pipe'] });
  await new Promise<void>((resolve, reject) => {
    let output = '';
    child.stdout?.on('data', (chunk: Buffer) => {
      output += chunk.toString();
      if (output.includes('+monitor')) resolve();
    });
    child.once('exit', () => reject(new Error(`a Sentinel ended at its start:\n${output}`)));
  });
  return child;
}
