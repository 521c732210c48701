/**
 * The tree of commands. A run loads the code of its own command only: the others stand in the tree with their name and
 * description, for the help. `allCommands` loads every one, for what needs the whole tree (completion, docs/cli.md).
 */
import { Command, type CommanderError } from 'commander';
import { packageVersion } from '../app/version.js';
import { OperatorError } from '../core/failure.js';
import { addConfigOption } from './config-option.js';
import type { CliContext, RegisterCommand } from './context.js';
import { addServerOptions } from './server-option.js';
import { usageSentence } from './usage-error.js';

interface CommandEntry {
  readonly name: string;
  /** What its own file says too; a test compares them. */
  readonly description: string;
  readonly load: () => Promise<RegisterCommand>;
}

/** Every command, in the order of the help. */
export const commandEntries: readonly CommandEntry[] = [
  {
    name: 'serve',
    description: 'start the sidecar: data plane and admin plane',
    load: async () => (await import('./serve.js')).registerServe,
  },
  {
    name: 'demo',
    description: 'try it: starts Redis, a small store and Tollkeeper in front of it, and prints requests to paste',
    load: async () => (await import('./demo.js')).registerDemo,
  },
  {
    name: 'doctor',
    description: 'check the configuration, Redis, the upstream and the limits of the process',
    load: async () => (await import('./doctor.js')).registerDoctor,
  },
  {
    name: 'tenant',
    description: 'tenants (stores): each has its own tokens and logs',
    load: async () => (await import('./tenant.js')).registerTenant,
  },
  {
    name: 'token',
    description: 'tokens: what a client shows to be let through',
    load: async () => (await import('./token.js')).registerToken,
  },
  {
    name: 'user',
    description: 'users of the admin plane: operators, and owners of one tenant',
    load: async () => (await import('./user.js')).registerUser,
  },
  {
    name: 'audit',
    description: 'the audit log: who changed what, when and from where',
    load: async () => (await import('./audit.js')).registerAudit,
  },
  {
    name: 'logs',
    description: 'print the access log, oldest first (default: the last 100 entries of all tenants)',
    load: async () => (await import('./logs.js')).registerLogs,
  },
  {
    name: 'usage',
    description: 'calls, success, response times, routes and refusals of a token or tenant',
    load: async () => (await import('./usage.js')).registerUsage,
  },
  {
    name: 'explain',
    description: 'say why a request is admitted or refused: every check in order; nothing is charged or used up',
    load: async () => (await import('./explain.js')).registerExplain,
  },
  {
    name: 'policy',
    description: 'the policy: what each route needs',
    load: async () => (await import('./policy.js')).registerPolicy,
  },
  {
    name: 'sign',
    description: 'sign a request with an HMAC token; the secret comes from TK_SECRET, --secret-file or standard input',
    load: async () => (await import('./sign.js')).registerSign,
  },
  {
    name: 'gen',
    description: 'print the configuration of a reverse proxy that asks Tollkeeper about every request',
    load: async () => (await import('./gen.js')).registerGen,
  },
  {
    name: 'export',
    description: 'write a backup: tenants, tokens (hashes and sealed secrets) and users, in one file',
    load: async () => (await import('./export.js')).registerExport,
  },
  {
    name: 'import',
    description: 'restore a backup into an empty Redis, or add what is missing to one that is not',
    load: async () => (await import('./import.js')).registerImport,
  },
  {
    name: 'completion',
    description: 'print the script that completes commands and options in a shell',
    load: async () => (await import('./completion.js')).registerCompletion,
  },
];

/** Options of the program that take a value; the name of the command is not to be looked for behind them. */
const globalOptionsWithValue: ReadonlySet<string> = new Set([
  '--config',
  '--server',
  '--admin-key',
  '--admin-key-file',
]);

/** The tree for one command line: the command that it names with all its parts, the others as names. */
export function programFor(argv: readonly string[], context: CliContext): Promise<Command> {
  const named = commandNamed(argv);
  return build(context, ({ name }) => name === named);
}

/** The tree with every part of every command. */
export function allCommands(context: CliContext): Promise<Command> {
  return build(context, () => true);
}

/** `command` and everything below it. */
export function commandsBelow(command: Command): readonly Command[] {
  return [command, ...command.commands.flatMap(commandsBelow)];
}

/** The name as it is typed: `tollkeeper token list`. */
export function commandPath(command: Command): string {
  return command.parent === null ? command.name() : `${commandPath(command.parent)} ${command.name()}`;
}

async function build(context: CliContext, isWhole: (entry: CommandEntry) => boolean): Promise<Command> {
  const program = new Command('tollkeeper')
    .description('Auth sidecar: tokens, scopes and limits in front of any HTTP API.')
    .version(packageVersion())
    .helpCommand('help [command]', 'show the help of a command')
    .configureOutput({ writeOut: (text) => context.out(text.trimEnd()), writeErr: () => {}, outputError: () => {} });
  addConfigOption(program);
  addServerOptions(program);
  for (const entry of commandEntries) {
    if (isWhole(entry)) (await entry.load())(program, context);
    else program.command(entry.name).description(entry.description);
  }
  for (const command of commandsBelow(program)) command.exitOverride(endCommandLine);
  return program;
}

/** What commander ends with becomes one sentence; help and version that were asked for are no failure. */
function endCommandLine(this: Command, error: CommanderError): never {
  if (error.exitCode === 0) throw error;
  throw new OperatorError(usageSentence(error, this, commandPath(this)), 2);
}

function commandNamed(argv: readonly string[]): string | undefined {
  const names = new Set(commandEntries.map(({ name }) => name));
  let from = 0;
  // `tollkeeper help token` is about token.
  if (argv[0] === 'help') from = 1;
  for (let at = from; at < argv.length; at++) {
    const word = argv[at] as string;
    if (globalOptionsWithValue.has(word)) at++;
    else if (names.has(word)) return word;
    else if (!word.startsWith('-')) return undefined;
  }
  return undefined;
}
