/** Runs a TypeScript program of the benchmark to its end and answers the JSON that it printed. */
import { childEnvironment } from '../../test/support/cli.js';
import { spawnTied } from '../../test/support/process.js';
import { pinned } from './cores.js';
import { scriptArgs } from './node-child.js';

/** Rejects with what it wrote on stderr when it fails or has not ended after `deadlineMs`. */
export function runReporting<T>(script: URL, args: readonly string[], core: number, deadlineMs: number): Promise<T> {
  const [file, fileArgs] = pinned(process.execPath, scriptArgs(script, ...args), core);
  const child = spawnTied(file, fileArgs, { env: childEnvironment({}), stdio: ['ignore', 'pipe', 'pipe'] });
  return new Promise((resolve, reject) => {
    let output = '';
    let errors = '';
    const timer = setTimeout(() => child.kill('SIGKILL'), deadlineMs);
    child.stdout?.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
    child.stderr?.on('data', (chunk: Buffer) => {
      errors += chunk.toString();
    });
    child.once('error', reject);
    child.once('close', (code) => {
      clearTimeout(timer);
      if (code === 0 && output !== '') resolve(JSON.parse(output) as T);
      else reject(new Error(`${script.pathname} ended (${code ?? child.signalCode}):\n${errors}`));
    });
  });
}
