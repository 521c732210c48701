import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { createLogger, type Logger } from '../../../src/telemetry/logger.js';

const canary = 'cAnArY0123456789';
const token = `tk_live_abcdefghijkl_${canary.padEnd(38, 'x')}`;

function linesOf(write: (logger: Logger) => void): string {
  const lines: string[] = [];
  write(createLogger('trace', { write: (line: string) => lines.push(line) }));
  for (const line of lines) JSON.parse(line);
  return lines.join('');
}

test('what is under the name of a credential never reaches the log, at any depth and in any form', () => {
  const name = fc.constantFrom(
    'authorization',
    'Authorization',
    'x-api-key',
    'X_API_KEY',
    'secret',
    'masterKey',
    'TOLLKEEPER_MASTER_KEY'.slice(11),
    'adminKey',
    'password',
    'cookie',
    'token',
    'sealedSecret',
    'signature',
  );
  const value = fc.constantFrom<unknown>(
    canary,
    [canary],
    { x: canary },
    { deep: [{ er: canary }] },
    Buffer.from(canary),
  );
  const path = fc.array(fc.constantFrom('a', 'err', 'request', 'list'), { maxLength: 12 });
  fc.assert(
    fc.property(name, value, path, (key, hidden, around) => {
      const fields = around.reduce<Record<string, unknown>>((inner, outer) => ({ [outer]: inner }), { [key]: hidden });
      expect(linesOf((logger) => logger.info(fields, 'x'))).not.toContain(canary);
    }),
  );
});

test.each([
  ['a token in a message', (logger: Logger) => logger.info(`using ${token}`)],
  ['a token behind a line break', (logger: Logger) => logger.info(`a\n${token}\tb`)],
  ['a token in a field', (logger: Logger) => logger.info({ path: `/x/${token}` }, 'x')],
  ['a Bearer value', (logger: Logger) => logger.info({ header: `a\nbearer ${canary}` }, 'x')],
  ['a password in an address', (logger: Logger) => logger.info(`redis://user:${canary}@host:6379/0`)],
  ['a password with an @ in it', (logger: Logger) => logger.info(`rediss://:p@${canary}@host:6379/0`)],
  ['a URL object', (logger: Logger) => logger.info({ at: new URL(`redis://u:${canary}@host`) }, 'x')],
  ['the message of an error', (logger: Logger) => logger.error(new Error(`cannot use ${token}`))],
  [
    'the command that ioredis attaches to an error',
    (logger: Logger) => logger.error({ err: Object.assign(new Error('x'), { command: { args: [canary] } }) }, 'x'),
  ],
  [
    'the cause of an error',
    (logger: Logger) => logger.error(new Error('x', { cause: Object.assign(new Error(token), { args: [canary] }) })),
  ],
  ['a binding of a child logger', (logger: Logger) => logger.child({ 'x-api-key': canary }).info('x')],
] as const)('%s is redacted', (_, write) => {
  const lines = linesOf(write);
  expect(lines).not.toBe('');
  expect(lines).not.toContain(canary);
});

test('what the operator needs stays: the id of a token, the address, message, code and stack of an error', () => {
  const lines = linesOf((logger) =>
    logger.error(
      { err: Object.assign(new Error('no route'), { code: 'EHOSTUNREACH' }), tokenId: 'abcdefghijkl' },
      token,
    ),
  );
  const line = JSON.parse(lines) as { msg: string; tokenId: string; err: Record<string, string> };
  expect(line).toMatchObject({
    level: 'error',
    tokenId: 'abcdefghijkl',
    msg: 'tk_live_abcdefghijkl_[redacted]',
    err: { type: 'Error', message: 'no route', code: 'EHOSTUNREACH' },
  });
  expect(line.err.stack).toContain('logger.test');
  expect(linesOf((logger) => logger.info({ at: 'redis://127.0.0.1:6379/0' }, 'x'))).toContain(
    'redis://127.0.0.1:6379/0',
  );
});
