/** The command line: exit code 0 done, 1 failed, 2 wrong usage; errors are one sentence on stderr. */
import { CommanderError } from 'commander';
import { OperatorError } from '../core/failure.js';
import type { CliContext } from './context.js';
import { programFor } from './program.js';

/** Runs the command line of this process and answers its exit code. */
export function runCli(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<0 | 1 | 2> {
  return runCommandLine(argv, {
    env,
    out: (line) => process.stdout.write(`${line}\n`),
    err: (line) => process.stderr.write(`${line}\n`),
    // Carriage return, then "erase in line" (ECMA-48).
    ...(process.stderr.isTTY ? { status: (text: string) => void process.stderr.write(`\r\u001b[K${text}`) } : {}),
  });
}

/** Runs one command line and answers its exit code. Never throws for what a person can mend. */
export async function runCommandLine(argv: readonly string[], context: CliContext): Promise<0 | 1 | 2> {
  try {
    const program = await programFor(argv, context);
    await program.parseAsync(argv, { from: 'user' });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0;
    if (error instanceof OperatorError) {
      context.err(`tollkeeper: ${error.message}`);
      return error.exitCode;
    }
    context.err(`tollkeeper: internal error: ${error instanceof Error ? error.stack : String(error)}`);
    return 1;
  }
}
