/**
 * Real redis-server (or valkey-server) processes, one a test: own folder, unix socket by default, gone on `stop()`.
 * Nothing is shared and nothing is mocked; faults are real signals to a real process.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ChildProcess } from 'node:child_process';
import { Redis } from 'ioredis';
import { endProcess, findExecutable, hasExited, spawnTied } from './process.js';
import { freePort } from './ports.js';

export interface RedisOptions {
  /** Further command-line arguments, e.g. `['--maxmemory', '2mb']`; they win over the rig's own. */
  readonly args?: readonly string[];
  /** Further environment of the server. */
  readonly env?: Readonly<Record<string, string>>;
  /** Data folder; without it a temporary one that `stop()` removes. */
  readonly dir?: string;
  /** Append-only file with fsync on every write, so that `restart({ keepData: true })` keeps all of it. */
  readonly appendonly?: boolean;
  /** Listen on a free loopback port instead of a unix socket. */
  readonly tcp?: boolean;
  /** Listen on this loopback port (implies `tcp`). */
  readonly port?: number;
  /** Listen with TLS on a loopback port (implies `tcp`); `caFile` verifies the certificate. */
  readonly tls?: boolean;
  /** What {@link makeCertificates} made, for servers that trust each other (implies `tls`). */
  readonly certificates?: string;
  /** Password of the default user, and of the primary that this server follows. */
  readonly password?: string;
}

export interface RedisServer {
  /** For `TOLLKEEPER_REDIS_URL`. */
  readonly url: string;
  /** The port, 0 on a unix socket. */
  readonly port: number;
  readonly dir: string;
  /** CA certificate (PEM file) of a TLS server, else ''. */
  readonly caFile: string;
  /** Pid of the running server; another one after `restart`. */
  readonly pid: number;
  /** A new connection with ioredis' defaults, closed by `stop()`. */
  client(): Redis;
  /** Ends the server and removes its temporary folder. May be called at any time, more than once. */
  stop(): Promise<void>;
  /** SIGKILL. The data folder stays for `restart`. */
  kill(): Promise<void>;
  /** SIGKILL (if it still runs) and a new server at the same address, with or without what was on disk. */
  restart(how: { keepData: boolean }): Promise<void>;
  /** SIGSTOP: connections stay open, nothing answers. */
  freeze(): void;
  /** SIGCONT. */
  thaw(): void;
}

/** The server program of this machine. */
export function redisServerProgram(): string {
  const program = findExecutable('redis-server', 'valkey-server');
  if (program === undefined) throw new Error('no redis-server or valkey-server on PATH: run `npm run setup`');
  return program;
}

/** Starts a server and answers when it has replied to a PING. */
export async function startRedis(options: RedisOptions = {}): Promise<RedisServer> {
  const temporary = options.dir === undefined;
  const dir = options.dir ?? mkdtempSync(join(tmpdir(), 'tk-redis-'));
  const dataDir = join(dir, 'data');
  const socketPath = join(dir, 'redis.sock');
  const tls = options.tls === true || options.certificates !== undefined;
  const certificates = options.certificates ?? dir;
  const { password } = options;
  const port = options.port ?? (options.tcp === true || tls ? await freePort() : 0);
  const caFile = !tls ? '' : options.certificates === undefined ? makeCertificates(dir) : join(certificates, 'ca.pem');
  const url = tls ? `rediss://localhost:${port}` : port > 0 ? `redis://127.0.0.1:${port}` : `unix://${socketPath}`;

  const clients = new Set<Redis>();
  let child: ChildProcess;

  const launch = async (): Promise<void> => {
    mkdirSync(dataDir, { recursive: true });
    rmSync(socketPath, { force: true });
    const settings: Record<string, string> = {
      dir: dataDir,
      daemonize: 'no',
      save: '',
      'lazyfree-lazy-expire': 'yes',
      bind: '127.0.0.1',
      port: String(tls ? 0 : port),
      ...(port === 0 ? { unixsocket: socketPath } : {}),
      ...(tls ? tlsSettings(certificates, port) : {}),
      ...(password === undefined ? {} : { requirepass: password, masterauth: password }),
      ...(options.appendonly === true ? { appendonly: 'yes', appendfsync: 'always' } : {}),
    };
    const settingArgs = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]);
    child = spawnTied(redisServerProgram(), [...settingArgs, ...(options.args ?? [])], {
      env: { ...process.env, ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    await announced(child);
    const probe = connection();
    await probe.ping();
    probe.disconnect();
  };

  const connection = (): Redis => {
    const access = password === undefined ? {} : { password };
    const redis =
      port === 0
        ? new Redis({ path: socketPath, ...access })
        : new Redis({
            port,
            host: tls ? 'localhost' : '127.0.0.1',
            ...access,
            ...(tls ? { tls: { ca: readFileSync(caFile) } } : {}),
          });
    redis.on('error', () => {}); // a killed server is what some tests are about
    return redis;
  };

  await launch();
  return {
    url,
    port,
    dir,
    caFile,
    get pid() {
      return child.pid as number;
    },
    client() {
      const redis = connection();
      clients.add(redis);
      return redis;
    },
    async stop() {
      for (const redis of clients) redis.disconnect();
      clients.clear();
      await endProcess(child, 'SIGKILL');
      if (temporary) rmSync(dir, { recursive: true, force: true });
    },
    kill: () => endProcess(child, 'SIGKILL'),
    async restart({ keepData }) {
      await endProcess(child, 'SIGKILL');
      if (!keepData) rmSync(dataDir, { recursive: true, force: true });
      await launch();
    },
    freeze() {
      child.kill('SIGSTOP');
    },
    thaw() {
      child.kill('SIGCONT');
    },
  };
}

/** Resolves when the server says that it accepts connections (after it has loaded its data). */
function announced(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    let output = '';
    const read = (chunk: Buffer): void => {
      output += chunk.toString();
      if (output.includes('eady to accept connections')) resolve();
    };
    child.stdout?.on('data', read);
    child.stderr?.on('data', read);
    child.once('error', reject);
    child.once('exit', () => reject(new Error(`redis-server ended at its start:\n${output}`)));
    if (hasExited(child)) reject(new Error(`redis-server ended at its start:\n${output}`));
  });
}

/** Settings of a redis-server, or a Sentinel, that listens with TLS and reaches others so. */
export function tlsSettings(dir: string, port: number): Record<string, string> {
  return {
    'tls-port': String(port),
    'tls-auth-clients': 'no',
    'tls-replication': 'yes',
    'tls-ca-cert-file': join(dir, 'ca.pem'),
    'tls-cert-file': join(dir, 'server.pem'),
    'tls-key-file': join(dir, 'server.key'),
  };
}

/** A CA and a certificate for localhost and 127.0.0.1 in `dir`; answers the CA's file. */
export function makeCertificates(dir: string): string {
  const openssl = findExecutable('openssl');
  if (openssl === undefined) throw new Error('TLS tests need openssl on PATH: install it');
  const request = (name: string, subject: string, ...extra: readonly string[]): void => {
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', `${name}.key`];
    const args = ['req', '-x509', ...key, '-out', `${name}.pem`, '-days', '2', '-subj', `/CN=${subject}`, ...extra];
    execFileSync(openssl, args, { cwd: dir, stdio: 'pipe' });
  };
  const signed = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-addext', 'basicConstraints=critical,CA:FALSE'];
  request('ca', 'tollkeeper test CA');
  request('server', 'localhost', ...signed, '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1');
  return join(dir, 'ca.pem');
}
