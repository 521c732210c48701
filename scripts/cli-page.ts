/** docs/cli.md: every command with its arguments and options, read off the tree of commands. */
import type { Command, Option } from 'commander';
import { allCommands, commandPath, commandsBelow } from '../src/cli/program.js';
import { csvColumns } from '../src/cli/token-csv.js';
import { table } from './markdown.js';

const program = await allCommands({ env: {}, out: () => {}, err: () => {} });

/** The page. */
export function cliPage(): string {
  const leaves = commandsBelow(program).filter((command) => command !== program && isOwn(command));
  return [
    '# Command line',
    '',
    '`npx tollkeeper` in a clone, `tollkeeper` where the package is installed. Exit code 0: done, 1: failed, 2: wrong usage.',
    'Results go to standard output, everything said to a person to standard error; an error is one sentence that says what to',
    'do. `--json` prints what the admin API answers ([admin-api.md](admin-api.md)).',
    '',
    '## Redis itself, or a server',
    '',
    'Commands that manage things work on the Redis of the configuration ([configuration.md](configuration.md)): whoever can',
    'reach it with its password may do everything. With `--server URL` they ask the admin plane of a running Tollkeeper instead,',
    'as the holder of an admin key, within its role. Both print the same.',
    '',
    '```sh',
    'export TOLLKEEPER_SERVER=https://tollkeeper.internal:9090',
    'export TOLLKEEPER_ADMIN_KEY_FILE=~/.config/tollkeeper/key    # or TOLLKEEPER_ADMIN_KEY',
    'tollkeeper token list --tenant acme',
    '```',
    '',
    'Where the API asks for the password once more, the command asks you for it; without a terminal each password is a line of',
    'standard input, in the order in which they are asked for. What only works on the Redis itself says so:',
    '`export`, `import`, `token rekey`, `token import --csv`, `logs verify`, `doctor`. Over the API `logs` is the log of one',
    'tenant (`--tenant`), `--follow` begins now, and `explain` speaks of the policy that is in force there. Every change is in',
    'the audit log, with the user and host of the command or the name of the key.',
    '',
    '## Completion',
    '',
    '```sh',
    'source <(tollkeeper completion bash)     # zsh: completion zsh',
    'tollkeeper completion fish | source',
    '```',
    '',
    '## Importing many tokens',
    '',
    '`tollkeeper token import --tenant acme --csv tokens.csv` takes a CSV file (RFC 4180, UTF-8, the first line names the',
    'columns) of tokens that another system issued. An empty cell leaves it to the option of the command line, or to the default.',
    '',
    table(
      ['column', 'holds'],
      Object.entries(csvColumns).map(([name, holds]) => [`\`${name}\``, holds]),
    ),
    '',
    'The file is judged before anything is written: a row that cannot be used is named by line and column, and nothing is',
    'imported unless `--skip-invalid` leaves such rows out; so is a file with more new tokens than the tenant has places.',
    '`--dry-run` stops there. Each row is imported whole or not at all. After Ctrl-C, a crash or an outage import the same file',
    'again: what is there already is passed over. Imported tokens need `TOLLKEEPER_FOREIGN_TOKENS=true` to be accepted.',
    '',
    '## Commands',
    '',
    'Options of every command:',
    '',
    optionTable(program.options),
    '',
    ...leaves.flatMap(section),
  ]
    .join('\n')
    .trimEnd();
}

/** Not one of commander's `help`, nor a group that does nothing by itself. */
function isOwn(command: Command): boolean {
  return command.commands.length === 0;
}

function section(command: Command): readonly string[] {
  const usage = `${commandPath(command)} ${command.usage().replace('[options] ', '').replace('[options]', '')}`.trim();
  const options = command
    .createHelp()
    .visibleOptions(command)
    .filter(({ long }) => long !== '--help');
  const after = command.registeredArguments.filter(({ description }) => description !== '');
  return [
    `### ${commandPath(command)}`,
    '',
    `\`${usage}\`: ${command.description()}.`,
    '',
    ...(after.length === 0
      ? []
      : [
          table(
            ['argument', 'is'],
            after.map((one) => [`\`${one.name()}\``, withChoices(one.description, one.argChoices)]),
          ),
          '',
        ]),
    optionTable(options),
    '',
  ];
}

function optionTable(options: readonly Option[]): string {
  return table(
    ['option', 'does'],
    options.map((option) => {
      const { flags, mandatory, description, argChoices, defaultValue } = option;
      const fallback =
        typeof defaultValue === 'string' && !description.includes('default') ? ` (default: \`${defaultValue}\`)` : '';
      return [
        `\`${flags}\``,
        `${withChoices(description, argChoices)}${fallback}${mandatory ? '; must be given' : ''}`,
      ];
    }),
  );
}

function withChoices(description: string, choices: readonly string[] | undefined): string {
  return choices === undefined ? description : `${description}: ${choices.join(', ')}`;
}
