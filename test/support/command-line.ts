/** Runs command lines in this process: as fast as a function call, for tests of many commands. */
import { runCommandLine } from '../../src/cli/cli.js';
import type { CommandResult } from './cli.js';

/** Runs `tollkeeper <args>` with this environment and nothing else. */
export async function runInProcess(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<CommandResult> {
  let stdout = '';
  let stderr = '';
  const code = await runCommandLine(args, {
    env: { ...env },
    out: (line) => {
      stdout += `${line}\n`;
    },
    err: (line) => {
      stderr += `${line}\n`;
    },
  });
  return { code, stdout, stderr };
}

/**
 * Runs a command with `--json`, expects exit code 0 and answers what it printed: for what sets a test up. What a test
 * is about, with its exit codes, streams and signals, belongs to a process of its own (`runCommand`).
 */
export async function runJsonInProcess<T>(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<T> {
  const { code, stdout, stderr } = await runInProcess([...args, '--json'], env);
  if (code !== 0) throw new Error(`tollkeeper ${args.join(' ')} ended with ${code}: ${stderr}`);
  return JSON.parse(stdout) as T;
}
