/** The completion scripts in the shells themselves, typed into a terminal with the tab key. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runCommand } from '../support/cli.js';
import { findExecutable, spawnTied } from '../support/process.js';

let dir: string;

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'tk-completion-'));
  for (const shell of ['bash', 'zsh', 'fish']) {
    const { code, stdout } = await runCommand(['completion', shell]);
    expect(code).toBe(0);
    writeFileSync(join(dir, `completion.${shell}`), stdout);
  }
  writeFileSync(join(dir, 'policy.yaml'), '');
  const echo = 'tollkeeper() { echo "RAN:$*:"; }';
  writeFileSync(join(dir, 'bashrc'), `source ${dir}/completion.bash\n${echo}\n`);
  writeFileSync(join(dir, '.zshrc'), `autoload -U compinit; compinit -u -D\nsource ${dir}/completion.zsh\n${echo}\n`);
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const terminal = findExecutable('script');

/** Types `keys` into the shell on a terminal and answers the line that was run. */
async function typed(shell: string, keys: string): Promise<string> {
  // The terminal is the `script` program's own: completion needs one.
  const child = spawnTied(terminal as string, ['-qec', shell, '/dev/null'], {
    cwd: dir,
    env: { ...process.env, TERM: 'dumb', ZDOTDIR: dir, HISTFILE: '' },
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  let shown = '';
  child.stdin?.write(keys);
  await new Promise<void>((done) => {
    child.stdout?.on('data', (chunk: Buffer) => {
      shown += chunk.toString();
      if (/RAN:.*:\r?\n/.test(shown)) done();
    });
    child.once('close', () => done());
  });
  child.kill('SIGKILL');
  return /RAN:(.*):\r?\n/.exec(shown)?.[1] ?? `nothing was run: ${shown}`;
}

const bash = findExecutable('bash');
const zsh = findExecutable('zsh');
const fish = findExecutable('fish');

describe.skipIf(terminal === undefined || bash === undefined)('bash', () => {
  test.each([
    ['commands and options', 'tok\tli\t--ten\tacme', 'token list --tenant acme'],
    ['the choices of an argument', 'comp\tfi\t', 'completion fish'],
    ['files where a file is asked for', 'pol\tch\tpol\t', 'policy check policy.yaml'],
    ['the command behind a global option and its value', '--con\tpol\ttok\tli\t', '--config policy.yaml token list'],
    [
      'an option again behind the value of another',
      'token create --name list --ten\tx',
      'token create --name list --tenant x',
    ],
  ])('completes %s', async (_, keys, line) => {
    expect((await typed(`${bash} --noprofile --rcfile ${dir}/bashrc -i`, `tollkeeper ${keys}\n`)).trim()).toBe(line);
  });
});

describe.skipIf(terminal === undefined || zsh === undefined)('zsh', () => {
  test('completes commands and options', async () => {
    const line = await typed(`${zsh} -i`, 'tollkeeper tok\tli\t--ten\tacme\n');
    expect(line.trim()).toBe('token list --tenant acme');
  });
});

describe.skipIf(fish === undefined)('fish', () => {
  const offered = async (line: string): Promise<string> => {
    const child = spawnTied(fish as string, ['-c', `source ${dir}/completion.fish; complete -C "${line}"`], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let shown = '';
    child.stdout?.on('data', (chunk: Buffer) => {
      shown += chunk.toString();
    });
    await new Promise((done) => {
      child.once('close', done);
    });
    return shown;
  };

  test('offers commands, options and choices with what they do', async () => {
    expect(await offered('tollkeeper token re')).toContain('revoke\tend a token at once and for ever');
    expect(await offered('tollkeeper token list --pe')).toContain('--per-page\t');
    expect(await offered('tollkeeper completion ')).toContain('zsh');
  });
});
