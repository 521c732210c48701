/**
 * `--server URL`: commands that manage things then ask the admin API of a running Tollkeeper instead of the Redis. The
 * key comes from `TOLLKEEPER_ADMIN_KEY` or from a file, so that it need not stand on a command line, where every user of
 * the machine can read it.
 */
import { readFileSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { OperatorError } from '../core/failure.js';
import type { CliContext } from './context.js';

/** Variables of the command line alone; they are no part of the configuration. */
export const clientVariables = { server: 'TOLLKEEPER_SERVER' } as const;

/** An admin API and the key for it. */
export interface AdminServer {
  /** Without a slash at its end. */
  readonly origin: string;
  readonly adminKey: string;
}

interface ServerFlags {
  readonly server?: string;
  readonly adminKey?: string;
  readonly adminKeyFile?: string;
}

/** Adds the options to the program. */
export function addServerOptions(program: Command): void {
  program
    .addOption(
      new Option(
        '--server <url>',
        `manage a running Tollkeeper over its admin API instead of the Redis (also ${clientVariables.server})`,
      ),
    )
    .addOption(new Option('--admin-key-file <file>', 'file with the key for --server (default: TOLLKEEPER_ADMIN_KEY)'))
    .addOption(new Option('--admin-key <key>', 'the key itself, which every user of this machine can see then'));
}

/**
 * The server that `command` is to ask, or undefined: the Redis.
 * @throws OperatorError (exit code 2) when the URL or the key is not usable.
 */
export function serverOf(command: Command, { env, err }: CliContext): AdminServer | undefined {
  const flags = command.optsWithGlobals<ServerFlags>();
  const url = flags.server ?? (env[clientVariables.server] || undefined);
  if (url === undefined) {
    if (flags.adminKey === undefined && flags.adminKeyFile === undefined) return undefined;
    throw new OperatorError('An admin key goes with --server URL.', 2);
  }
  const origin = originOf(url);
  if (flags.adminKey !== undefined) {
    err('tollkeeper: other users of this machine can see the admin key: better name a file with --admin-key-file.');
  }
  const adminKey = keyOf(flags, env);
  if (!/^[\x21-\x7e]{1,512}$/.test(adminKey)) {
    throw new OperatorError('The admin key holds characters that no key has: look at where it comes from.', 2);
  }
  return { origin, adminKey };
}

/** @throws OperatorError (exit code 2) when --server was given to a command that works on the Redis itself. */
export function refuseServer(command: Command): void {
  if (command.optsWithGlobals<ServerFlags>().server === undefined) return;
  throw new OperatorError(
    `${command.name()} works on the Redis itself: run it where that can be reached, without --server.`,
    2,
  );
}

function originOf(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (
    url === undefined ||
    !/^https?:$/.test(url.protocol) ||
    url.username !== '' ||
    url.search !== '' ||
    url.hash !== ''
  ) {
    throw new OperatorError('--server takes the URL of an admin plane, such as https://tollkeeper.internal:9090.', 2);
  }
  return url.href.replace(/\/+$/, '');
}

function keyOf({ adminKey, adminKeyFile }: ServerFlags, env: NodeJS.ProcessEnv): string {
  if (adminKey !== undefined) return adminKey;
  const path = adminKeyFile ?? (env.TOLLKEEPER_ADMIN_KEY_FILE || undefined);
  if (path !== undefined) {
    try {
      return readFileSync(path, 'utf8').trim();
    } catch (error) {
      const reason = (error as NodeJS.ErrnoException).code ?? 'unknown reason';
      throw new OperatorError(`Cannot read the admin key from ${path} (${reason}).`, 2);
    }
  }
  const key = env.TOLLKEEPER_ADMIN_KEY;
  if (key) return key;
  throw new OperatorError(
    '--server needs an admin key: set TOLLKEEPER_ADMIN_KEY or name a file with --admin-key-file.',
    2,
  );
}
