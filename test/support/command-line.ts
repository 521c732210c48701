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
