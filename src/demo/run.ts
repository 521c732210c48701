/**
 * The demo as a whole: Redis, store, Tollkeeper, started in this order and ended in reverse.
 *
 * One demo a folder: `demo.pid` says who uses it. A demo that was killed leaves its Redis and its data behind; the
 * next one ends that Redis and goes on with the data.
 */
import { createWriteStream, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { serve } from '../app/serve.js';
import { loadConfig } from '../config/load.js';
import { OperatorError } from '../core/failure.js';
import { createLogger } from '../telemetry/logger.js';
import { writeConfiguration } from './configuration.js';
import { startEmbeddedRedis } from './embedded-redis.js';
import { makeFolder } from './folder.js';
import { startDemoStore } from './store.js';
import { type DemoTokens, prepareTenants } from './tenants.js';

export interface DemoOptions {
  /** Absolute path of the folder for data, socket, log and configuration. */
  readonly directory: string;
  /** Loopback port of the data plane; undefined: 8080, or a free one when that is taken. 0 takes a free one. */
  readonly port: number | undefined;
  /** As `port`, for the admin plane and 9090. */
  readonly adminPort: number | undefined;
  /** Leave tenants, tokens and logs for the next run. */
  readonly keep: boolean;
}

export interface RunningDemo {
  readonly dataUrl: string;
  readonly adminUrl: string;
  readonly storeUrl: string;
  readonly redisSocket: string;
  readonly configPath: string;
  readonly logPath: string;
  readonly tokens: DemoTokens;
  /** Ends everything it started. */
  readonly close: () => Promise<void>;
}

const dataPortDefault = 8080;
const adminPortDefault = 9090;

/**
 * Starts the demo and answers when it takes requests.
 * @throws OperatorError when something cannot start; nothing is left running then.
 */
export async function startDemo(options: DemoOptions): Promise<RunningDemo> {
  const { directory } = options;
  makeFolder(directory);
  const closers: (() => Promise<void> | void)[] = [];
  const close = async (): Promise<void> => {
    for (let step = closers.pop(); step !== undefined; step = closers.pop()) await step();
  };
  try {
    closers.push(takeFolder(directory));
    const redis = await startEmbeddedRedis(directory);
    closers.push(async () => {
      await redis.stop();
      if (!options.keep) rmSync(redis.dataDirectory, { recursive: true, force: true });
    });
    const store = await startDemoStore();
    closers.push(() => store.close());

    const configPath = writeConfiguration(directory, {
      listen: `127.0.0.1:${await portFor(options.port, dataPortDefault)}`,
      adminListen: `127.0.0.1:${await portFor(options.adminPort, adminPortDefault)}`,
      upstream: store.url,
      redisUrl: redis.url,
    });
    // The demo is what its file says: the caller's own TOLLKEEPER_ variables are for another installation.
    const config = loadConfig({ configPath, env: {} });
    const tokens = await prepareTenants(config);

    const logPath = join(directory, 'tollkeeper.log');
    const logFile = createWriteStream(logPath, { flags: 'a', mode: 0o600 });
    const [descriptor] = (await once(logFile, 'open')) as [number];
    closers.push(() => new Promise<void>((resolve) => void logFile.end(resolve)));
    const app = await serve(config, { logger: createLogger(config.logLevel, logFile), workersTo: descriptor });
    closers.push(() => app.close());
    return {
      dataUrl: `http://${app.dataAddress}`,
      adminUrl: `http://${app.adminAddress}`,
      storeUrl: store.url,
      redisSocket: redis.socketPath,
      configPath,
      logPath,
      tokens,
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/**
 * Marks the folder as in use; the answer takes the mark away.
 * @throws OperatorError when another demo uses it.
 */
function takeFolder(directory: string): () => void {
  const path = join(directory, 'demo.pid');
  const owner = pidIn(path);
  if (owner !== undefined && owner !== process.pid && isRunning(owner)) {
    throw new OperatorError(
      `A demo runs already in ${directory} (process ${owner}): end it with Ctrl-C, or start this one with --dir.`,
    );
  }
  writeFileSync(path, `${process.pid}\n`);
  return () => rmSync(path, { force: true });
}

function pidIn(path: string): number | undefined {
  try {
    const pid = Number(readFileSync(path, 'utf8'));
    return Number.isInteger(pid) && pid > 0 ? pid : undefined;
  } catch {
    return undefined;
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** The port that was asked for; without one the usual port, or 0 when somebody listens there. */
async function portFor(wanted: number | undefined, usual: number): Promise<number> {
  if (wanted !== undefined) return wanted;
  const server = createServer();
  server.listen(usual, '127.0.0.1');
  try {
    await once(server, 'listening');
  } catch {
    return 0;
  }
  server.close();
  await once(server, 'close');
  return usual;
}
