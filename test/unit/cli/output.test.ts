import { expect, test } from 'vitest';
import type { CliContext } from '../../../src/cli/context.js';
import { printable, printFields, printJson, printTable } from '../../../src/cli/output.js';

function printed(print: (context: CliContext) => void): string[] {
  const lines: string[] = [];
  print({ env: {}, out: (line) => lines.push(line), err: () => {} });
  return lines;
}

test('a table has its columns aligned, no colours and no lines', () => {
  const lines = printed((context) =>
    printTable(
      context,
      ['id', 'scopes'],
      [
        ['a', ['x', 'y']],
        ['longer', []],
      ],
    ),
  );
  expect(lines).toEqual(['ID      SCOPES', 'a       x, y', 'longer  -']);
});

test('no rows print one word', () => {
  expect(printed((context) => printTable(context, ['id'], [], 'no tokens'))).toEqual(['no tokens']);
});

test('fields print a line each', () => {
  expect(
    printed((context) => printFields(context, { name: 'a', maxTokens: 25, active: false, subject: null })),
  ).toEqual(['name       a', 'maxTokens  25', 'active     false', 'subject    -']);
});

test('what others wrote cannot steer the terminal', () => {
  expect(printable('a\u001b[2Jb\r\n\u009b\u202ec')).toBe('a\\u{1b}[2Jb\\u{d}\\u{a}\\u{9b}\\u{202e}c');
  const [, line] = printed((context) => printTable(context, ['agent'], [['\u001b]0;x\u0007']]));
  expect(line).toBe('\\u{1b}]0;x\\u{7}');
});

test('JSON is one document', () => {
  const lines = printed((context) => printJson(context, { a: [1] }));
  expect(JSON.parse(lines.join('\n'))).toEqual({ a: [1] });
});
