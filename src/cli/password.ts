/** Passwords: typed into a terminal without echo, or a line of standard input for each. Never an argument. */
import { createInterface } from 'node:readline/promises';
import { Writable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { OperatorError } from '../core/failure.js';
import type { CliContext } from './context.js';

/** Lines of standard input that no password was taken from yet; undefined: it was not read. */
let piped: string[] | undefined;

/**
 * Asks for a password.
 * @param question what it is for, `Password of ann`.
 * @throws OperatorError (exit code 2) when there is neither a terminal nor a line.
 */
export async function askPassword({ err }: CliContext, question: string): Promise<string> {
  if (process.stdin.isTTY) return typed(question);
  piped ??= (await text(process.stdin)).split(/\r?\n/);
  const line = piped.shift() ?? '';
  if (line !== '') return line;
  err(`tollkeeper: ${question} is asked for.`);
  throw new OperatorError('Type the password into a terminal, or give it as a line of standard input.', 2);
}

/**
 * Asks for a new password, on a terminal twice.
 * @throws OperatorError (exit code 2) when the two differ, and as {@link askPassword}.
 */
export async function askNewPassword(context: CliContext, question: string): Promise<string> {
  const password = await askPassword(context, question);
  if (process.stdin.isTTY && (await typed(`${question}, again`)) !== password) {
    throw new OperatorError('The two passwords are not the same: try again.', 2);
  }
  return password;
}

async function typed(question: string): Promise<string> {
  process.stderr.write(`${question}: `);
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() });
  const terminal = createInterface({ input: process.stdin, output: silent, terminal: true });
  const interrupted = new AbortController();
  terminal.once('SIGINT', () => interrupted.abort());
  try {
    return await terminal.question('', { signal: interrupted.signal });
  } catch (error) {
    if (interrupted.signal.aborted) throw new OperatorError('Broken off: nothing was changed.');
    throw error;
  } finally {
    terminal.close();
    process.stderr.write('\n');
  }
}
