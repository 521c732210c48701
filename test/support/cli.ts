/** Runs the built command line (`npm run build` first; `npm test` does). */
import { fileURLToPath } from 'node:url';
import { spawnTied } from './process.js';

/** The built entry point. */
export const mainScript = fileURLToPath(new URL('../../dist/main.js', import.meta.url));

export interface CommandResult {
  /** Exit code; -1 when a signal ended it. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Environment for a child: this process' without any TOLLKEEPER_ variable, then `env`. */
export function childEnvironment(env: Readonly<Record<string, string>>): NodeJS.ProcessEnv {
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('TOLLKEEPER_'));
  return { ...Object.fromEntries(inherited), ...env };
}

/** Runs `tollkeeper <args>` to its end. `input` goes to standard input. `program`: entry point of another build. */
export function runCommand(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  input = '',
  program = mainScript,
): Promise<CommandResult> {
  return new Promise((resolve, reject) => {
    const child = spawnTied(process.execPath, [program, ...args], { env: childEnvironment(env), stdio: 'pipe' });
    let stdout = '';
    let stderr = '';
    child.stdout?.on('data', (chunk: Buffer) => {
      stdout += chunk.toString();
    });
    child.stderr?.on('data', (chunk: Buffer) => {
      stderr += chunk.toString();
    });
    child.once('error', reject);
    child.once('close', (code) => resolve({ code: code ?? -1, stdout, stderr }));
    child.stdin?.on('error', () => {}); // a command that does not read its input
    child.stdin?.end(input);
  });
}

/** Runs a command with `--json`, expects exit code 0 and answers what it printed. `program`: another build's. */
export async function runJson<T>(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  program = mainScript,
): Promise<T> {
  const { code, stdout, stderr } = await runCommand([...args, '--json'], env, '', program);
  if (code !== 0) throw new Error(`tollkeeper ${args.join(' ')} ended with ${code}: ${stderr}`);
  return JSON.parse(stdout) as T;
}
