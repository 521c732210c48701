/** `tollkeeper sign`, as a person runs it: printed headers, a curl line that really works, refusals in words. */
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command, CommanderError } from 'commander';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { registerSign } from '../../../src/cli/sign.js';
import { OperatorError } from '../../../src/core/failure.js';
import { signatureMatches } from '../../../src/credential/hmac.js';
import { signRequest } from '../../../src/sign/sign.js';
import { findExecutable } from '../../support/process.js';

const secret = 'tk_test_Vector000001_NotASecretOnlyForTestVectors00013x9fYD';
const digestOf = (body: Buffer): string => createHash('sha256').update(body).digest('hex');

const folder = mkdtempSync(join(tmpdir(), 'tollkeeper-sign-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function fileOf(name: string, content: string | Buffer): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

/** The lines that the command prints; a refusal is thrown. */
function run(args: readonly string[], env: NodeJS.ProcessEnv = { TK_SECRET: secret }): string[] {
  const lines: string[] = [];
  const quiet = { writeErr: () => {}, outputError: () => {} };
  const program = new Command('tollkeeper').exitOverride().configureOutput(quiet);
  registerSign(program, { env, out: (line) => lines.push(line), err: () => {} });
  program.parse(['sign', ...args], { from: 'user' });
  return lines;
}

function refusal(args: readonly string[], env: NodeJS.ProcessEnv = { TK_SECRET: secret }): OperatorError {
  try {
    run(args, env);
  } catch (error) {
    if (error instanceof OperatorError) return error;
    throw error;
  }
  throw new Error('was not refused');
}

describe('what is printed', () => {
  test('is the headers of the request, a line each', () => {
    const { headers } = signRequest({ secret, method: 'GET', url: '/a?b=c', nonce: 'n', timestamp: 1767225600 });
    expect(run(['/a?b=c', '--nonce', 'n', '--timestamp', '1767225600'])).toEqual(
      Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
    );
  });

  test('has a fresh nonce by default and none with --no-nonce', () => {
    const nonceOf = (lines: string[]) => lines.find((line) => line.startsWith('X-Tollkeeper-Nonce: '));
    const [first, second] = [nonceOf(run(['/'])), nonceOf(run(['/']))];
    expect(first).toBeDefined();
    expect(first).not.toBe(second);
    expect(nonceOf(run(['/', '--no-nonce']))).toBeUndefined();
  });

  test('with --json is one document with the canonical string', () => {
    const [line, ...rest] = run(['--json', '--no-nonce', '--timestamp', '1', 'http://h.example/a?b#c']);
    expect(rest).toEqual([]);
    expect(JSON.parse(line as string)).toEqual({
      method: 'GET',
      url: 'http://h.example/a?b',
      ...signRequest({ secret, method: 'GET', url: '/a?b', nonce: '', timestamp: 1 }),
    });
  });

  test('never holds the secret', () => {
    for (const form of [[], ['--json'], ['--curl']]) {
      expect(run(['http://h.example/', ...form]).join('\n')).not.toContain('NotASecret');
    }
  });

  test('takes the header prefix from the configuration or the option', () => {
    const env = { TK_SECRET: secret, TOLLKEEPER_HMAC_HEADER_PREFIX: 'X-Pandabase-' };
    expect(run(['/'], env)[0]).toBe('X-Pandabase-Token: Vector000001');
    expect(run(['/', '--header-prefix', 'X-Store-'], env)[0]).toBe('X-Store-Token: Vector000001');
  });
});

describe('the secret', () => {
  test('comes from a file, without the line break at its end, before the environment', () => {
    const path = fileOf('secret', `${secret}\r\n`);
    expect(run(['/', '--secret-file', path], { TK_SECRET: 'other' })[0]).toBe('X-Tollkeeper-Token: Vector000001');
  });

  test('comes from standard input when nothing else gives it', () => {
    const script = fileOf(
      'stdin.ts',
      `import { Command } from ${JSON.stringify(import.meta.resolve('commander'))};
       import { registerSign } from ${JSON.stringify(new URL('../../../src/cli/sign.ts', import.meta.url).href)};
       const program = new Command('tollkeeper');
       registerSign(program, { env: {}, out: (line) => process.stdout.write(line + '\\n'), err: () => {} });
       program.parse(['sign', '/', ...process.argv.slice(2)], { from: 'user' });`,
    );
    for (const args of [[], ['--secret-file', '-']]) {
      const tsx = import.meta.resolve('tsx');
      const { stdout, stderr } = spawnSync(process.execPath, ['--import', tsx, script, ...args], {
        input: `${secret}\n`,
        encoding: 'utf8',
      });
      expect(stderr).toBe('');
      expect(stdout).toContain('X-Tollkeeper-Token: Vector000001\n');
    }
  });

  test.each([
    ['as an option', ['/', '--secret', secret]],
    ['as an option with =', ['/', `--secret=${secret}`]],
  ])('is refused %s, in words that do not repeat it', (_, args) => {
    const { message, exitCode } = refusal(args, {});
    expect(exitCode).toBe(2);
    expect(message).toContain('--secret-file');
    expect(message).not.toContain('NotASecret');
  });

  test.each([
    ['shortened', secret.slice(0, -1)],
    ['with a wrong character', secret.replace('Vectors', 'Sectors')],
    ['of spaces', '   '],
  ])('is refused when it is %s, in words that do not repeat it', (_, text) => {
    const { message, exitCode } = refusal(['/'], { TK_SECRET: text });
    expect(exitCode).toBe(2);
    expect(message).not.toContain(text.trim() === '' ? 'NotASecret' : text.slice(21));
  });
});

describe('refused with exit code 2 and one sentence', () => {
  test.each([
    ['a body given twice', ['/', '-d', 'a', '--data-file', 'b']],
    ['standard input used twice', ['/', '--data-file', '-', '--secret-file', '-']],
    ['a curl line without a host', ['/', '--curl']],
    ['two forms of output', ['http://h.example/', '--curl', '--json']],
    ['a method in lower case', ['/', '-X', 'get']],
    ['a timestamp that is no number', ['/', '--timestamp', '1e3']],
    ['an empty timestamp', ['/', '--timestamp', '']],
    ['a URL without scheme', ['h.example/a']],
    ['a file that is not there', ['/', '--data-file', join(folder, 'none')]],
    ['a secret file that is a folder', ['/', '--secret-file', folder]],
  ])('%s', (_, args) => {
    const { message, exitCode } = refusal(args);
    expect(exitCode).toBe(2);
    expect(message).toMatch(/^[A-Z-].*\.$/);
  });

  test('no URL at all', () => {
    expect(() => run([])).toThrow(CommanderError);
  });
});

describe.skipIf(findExecutable('curl') === undefined)('the curl line', () => {
  interface Received {
    readonly method: string;
    readonly target: string;
    readonly headers: NodeJS.Dict<string | string[]>;
    readonly body: Buffer;
  }
  let server: Server;
  let origin: string;
  let received: Received[] = [];

  beforeAll(async () => {
    server = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        const { method = '', url = '', headers } = request;
        received.push({ method, target: url, headers, body: Buffer.concat(chunks) });
        // A curl that waits for the body of an answer to HEAD would fail.
        response.setHeader('Content-Length', 2);
        response.end('ok');
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterAll(() => server.close());

  /** Runs the line in a shell and answers what the server saw. */
  async function sent(args: readonly string[]): Promise<Received> {
    received = [];
    const [line, ...rest] = run([...args, '--curl']);
    expect(rest).toEqual([]);
    const shell = spawn('sh', ['-c', `${line as string} --silent --noproxy '*'`], { stdio: 'ignore' });
    const code = await new Promise<number | null>((resolve) => shell.once('close', resolve));
    expect(code).toBe(0);
    expect(received).toHaveLength(1);
    return received[0] as Received;
  }

  function isSigned({ method, target, headers, body }: Received): boolean {
    const value = (name: string): string => String(headers[`x-tollkeeper-${name}`] ?? '');
    expect(value('token')).toBe('Vector000001');
    const parts = [method, target, value('timestamp'), value('nonce'), digestOf(body), value('signature')] as const;
    return signatureMatches(secret, ...parts);
  }

  test.each([
    ['/api/v1/products?page=2&per_page=5', 'GET'],
    ['/caf%C3%A9/[1-3]/{a,b}?x=[1-9]&y={p,q}', 'GET'],
    ["/it's?a='b'&c=$HOME`id`", 'GET'],
    ['/a/../b?', 'GET'],
    ['/', 'HEAD'],
    ['/api/v1/products/1', 'DELETE'],
  ])('sends %s by %s as it was signed', async (path, method) => {
    const request = await sent(['-X', method, origin + path]);
    expect(request.method).toBe(method);
    expect(isSigned(request)).toBe(true);
  });

  test.each([
    ['JSON', '{"a":"it\'s $5"}', 'application/json'],
    ['text of several lines', 'Café\n🐼\n"\'\\', 'application/x-www-form-urlencoded'],
    ['text that begins with @', '@/etc/passwd', 'application/x-www-form-urlencoded'],
    ['an empty body', '', 'application/x-www-form-urlencoded'],
  ])('sends %s as it was signed', async (_, data, contentType) => {
    const request = await sent([`${origin}/api/v1/orders`, '-d', data]);
    expect(request.method).toBe('POST');
    expect(request.body.toString()).toBe(data);
    expect(request.headers['content-type']).toBe(contentType);
    expect(isSigned(request)).toBe(true);
  });

  test('sends a binary file as it was signed, whatever its name', async () => {
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, value) => value));
    const request = await sent([`${origin}/up`, '-X', 'PUT', '--data-file', fileOf("it's a file", bytes)]);
    expect(request.body).toEqual(bytes);
    expect(isSigned(request)).toBe(true);
  });

  test('declares the digest of the body when asked to', async () => {
    const request = await sent([`${origin}/up`, '-d', 'x', '--declare-body']);
    expect(request.headers['x-tollkeeper-content-sha256']).toBe(digestOf(Buffer.from('x')));
    expect(isSigned(request)).toBe(true);
  });
});
