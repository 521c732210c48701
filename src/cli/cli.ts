/** The command line: one file a command, exit code 0 done, 1 failed, 2 wrong usage; errors are one sentence on stderr. */
import { Command, CommanderError } from 'commander';
import { OperatorError } from '../core/failure.js';
import { addConfigOption } from './config-option.js';
import type { CliContext, RegisterCommand } from './context.js';
import { registerDemo } from './demo.js';
import { registerDoctor } from './doctor.js';
import { registerExplain } from './explain.js';
import { registerGen } from './gen.js';
import { registerLogs } from './logs.js';
import { registerPolicy } from './policy.js';
import { registerServe } from './serve.js';
import { registerSign } from './sign.js';
import { registerTenant } from './tenant.js';
import { registerToken } from './token.js';
import { packageVersion } from '../app/version.js';

const commands: readonly RegisterCommand[] = [
  registerDemo,
  registerDoctor,
  registerExplain,
  registerGen,
  registerLogs,
  registerPolicy,
  registerServe,
  registerSign,
  registerTenant,
  registerToken,
];

/** Runs one command line and answers its exit code. Never throws for what a person can mend. */
export async function runCli(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<0 | 1 | 2> {
  const context: CliContext = {
    env,
    out: (line) => process.stdout.write(`${line}\n`),
    err: (line) => process.stderr.write(`${line}\n`),
  };
  const program = new Command('tollkeeper')
    .description('Auth sidecar: tokens, scopes and limits in front of any HTTP API.')
    .version(packageVersion())
    .exitOverride()
    .configureOutput({ outputError: (text) => context.err(text.trim()) })
    .showHelpAfterError('(run with --help for the usage)');
  addConfigOption(program);
  for (const register of commands) register(program, context);
  try {
    await program.parseAsync(argv, { from: 'user' });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    if (error instanceof OperatorError) {
      context.err(`tollkeeper: ${error.message}`);
      return error.exitCode;
    }
    context.err(`tollkeeper: internal error: ${error instanceof Error ? error.stack : String(error)}`);
    return 1;
  }
}
