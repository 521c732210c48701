import type { Command } from 'commander';
import { expect, test } from 'vitest';
import type { CliContext } from '../../../src/cli/context.js';
import { allCommands, commandEntries, commandPath, commandsBelow, programFor } from '../../../src/cli/program.js';

const context: CliContext = { env: {}, out: () => {}, err: () => {} };

async function failureOf(...argv: string[]): Promise<unknown> {
  const program = await programFor(argv, context);
  return program.parseAsync(argv, { from: 'user' }).then(
    () => undefined,
    (error: unknown) => error,
  );
}

test('a command is described in the help as in its own file', async () => {
  const program = await allCommands(context);
  const said = program.commands.map((command) => [command.name(), command.description()]);
  expect(said).toEqual(commandEntries.map(({ name, description }) => [name, description]));
});

test('every command takes --json', async () => {
  const leaves = commandsBelow(await allCommands(context)).filter((command) => command.commands.length === 0);
  const without = leaves.filter((command) => !command.options.some(({ long }) => long === '--json'));
  expect(without.map(commandPath)).toEqual([]);
});

test('only the command that is named has its parts, wherever the options of the program stand', async () => {
  const partsOf = (program: Command) => program.commands.filter(({ commands }) => commands.length > 0);
  for (const argv of [
    ['token', 'list'],
    ['--config', 'tenant', 'token', 'list'],
    ['help', 'token'],
  ]) {
    const program = await programFor(argv, context);
    expect(partsOf(program).map((command) => command.name())).toEqual(['token']);
    expect(program.commands).toHaveLength(commandEntries.length);
  }
});

test.each([
  [[], 'name a command (serve, demo,'],
  [['tokn'], "unknown command 'tokn' (did you mean token?): see tollkeeper --help."],
  [['token'], 'token needs one of its commands (create,'],
  [['token', 'lis'], "unknown command 'lis' (did you mean list?): see tollkeeper token --help."],
  [['token', 'list'], "required option '--tenant <slug>' not specified: see tollkeeper token list --help."],
  [['token', 'show', 'x', '--jsn'], "unknown option '--jsn' (did you mean --json?): see tollkeeper token show"],
  [['token', 'list', '--tenant'], "option '--tenant <slug>' argument missing: see tollkeeper token list --help."],
  [['token', 'list', '--page', 'x'], "argument 'x' is invalid, it must be a whole number: see tollkeeper token list"],
  [['token', 'show'], "missing required argument 'id': see tollkeeper token show --help."],
  [['token', 'show', 'a', 'b'], "too many arguments for 'show'"],
  [
    ['gen', 'apache', '--upstream', 'x'],
    'choose one of nginx, caddy, haproxy, traefik, envoy: see tollkeeper gen --help.',
  ],
])('%j is wrong usage, said in one line that names the help', async (argv, sentence) => {
  const failure = await failureOf(...argv);
  expect(failure).toMatchObject({ name: 'OperatorError', exitCode: 2, message: expect.stringContaining(sentence) });
  expect((failure as Error).message).not.toContain('\n');
});

test('what stands behind the = of an unknown option is not repeated: it may be a secret', async () => {
  expect(String(await failureOf('token', 'create', '--password=hunter2'))).not.toContain('hunter2');
});

test('nothing that is repeated can steer the terminal', async () => {
  expect(String(await failureOf('token', 'show', 'a', '\u001b[2J'))).not.toContain('\u001b');
  expect(String(await failureOf('\u001b[2J'))).not.toContain('\u001b');
});
