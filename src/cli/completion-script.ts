/**
 * Completion scripts for bash, zsh and fish, written from the tree of commands. All three walk the words before the
 * cursor to find the command (the values of options are passed over), then offer its commands, options or values.
 */
import type { CompletableCommand, CompletableOption, CompletableValue } from './completion-tree.js';

export const shells = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof shells)[number];

type Tree = readonly CompletableCommand[];

/** The script that completes `tollkeeper` in a shell. */
export function completionScript(shell: Shell, tree: Tree): string {
  return { bash: bashScript, zsh: zshScript, fish: fishScript }[shell](tree).join('\n');
}

function bashScript(tree: Tree): readonly string[] {
  return [
    '# bash completion of tollkeeper. To use it: source <(tollkeeper completion bash)',
    '_tollkeeper() {',
    `  local word="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD-1]}" command='' offered='' kind='words' at`,
    '  for ((at = 1; at < COMP_CWORD; at++)); do',
    ...walk(tree, '${COMP_WORDS[at]}'),
    '  done',
    ...offers(tree),
    '  [[ "$word" == -* && "$kind" != value ]] && kind=words',
    '  COMPREPLY=()',
    '  case "$kind" in',
    '    file) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;',
    '    folder) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$word") ;;',
    '    words) mapfile -t COMPREPLY < <(compgen -W "$offered" -- "$word") ;;',
    '  esac',
    '}',
    'complete -F _tollkeeper tollkeeper',
  ];
}

function zshScript(tree: Tree): readonly string[] {
  return [
    '#compdef tollkeeper',
    '# zsh completion of tollkeeper. To use it: source <(tollkeeper completion zsh)',
    '_tollkeeper() {',
    `  local word="\${words[CURRENT]}" previous="\${words[CURRENT-1]}" command='' offered='' kind='words' at`,
    '  for ((at = 2; at < CURRENT; at++)); do',
    ...walk(tree, '${words[at]}'),
    '  done',
    ...offers(tree),
    '  [[ "$word" == -* && "$kind" != value ]] && kind=words',
    '  case "$kind" in',
    '    file) _files ;;',
    '    folder) _files -/ ;;',
    '    words) compadd -- ${=offered} ;;',
    '  esac',
    '}',
    'compdef _tollkeeper tollkeeper',
  ];
}

/** Lines of sh that follow one word before the cursor: into a command, or past the value of an option. */
function walk(tree: Tree, word: string): readonly string[] {
  const valued = tree.flatMap((command) => patternsOf(command, namesWithValue(command)));
  return [
    `    case "$command ${word}" in`,
    `      ${commandPatterns(tree).join('|')}) command="$command ${word}" ;;`,
    `      ${valued.join('|')}) at=$((at + 1)) ;;`,
    '    esac',
  ];
}

/** Lines of sh that say for `command` and `previous` what is `offered`, and of which `kind` it is. */
function offers(tree: Tree): readonly string[] {
  return [
    '  case "$command $previous" in',
    ...tree.flatMap((command) =>
      command.options.flatMap(({ names, value }) =>
        value === undefined ? [] : [`    ${patternsOf(command, names).join('|')}) ${valueOffer(value)} ;;`],
      ),
    ),
    '    *) case "$command" in',
    ...tree.map((command) => `      ${quoted(leadOf(command))}) ${commandOffer(command)} ;;`),
    '    esac ;;',
    '  esac',
  ];
}

function valueOffer(value: CompletableValue): string {
  if (value.kind === 'choice') return `offered=${quoted(value.choices.join(' '))}`;
  return `kind=${value.kind === 'text' ? 'value' : value.kind}`;
}

function commandOffer({ commands, options, argument }: CompletableCommand): string {
  const words = [...commands.map(({ name }) => name), ...options.flatMap(longNames)];
  if (argument?.kind === 'choice') words.unshift(...argument.choices);
  const offer = `offered=${quoted(words.join(' '))}`;
  return argument?.kind === 'file' || argument?.kind === 'folder' ? `${offer} kind=${argument.kind}` : offer;
}

function fishScript(tree: Tree): readonly string[] {
  const valued = tree.flatMap((command) => patternsOf(command, namesWithValue(command)));
  return [
    '# fish completion of tollkeeper. To use it: tollkeeper completion fish | source',
    'function __tollkeeper_command',
    "  set -l command ''",
    '  set -l skip 0',
    '  set -l before (commandline -opc)',
    '  for word in $before[2..-1]',
    '    if test $skip = 1',
    '      set skip 0',
    '      continue',
    '    end',
    '    switch "$command $word"',
    `      case ${commandPatterns(tree).join(' ')}`,
    '        set command "$command $word"',
    `      case ${valued.join(' ')}`,
    '        set skip 1',
    '    end',
    '  end',
    '  echo "$command"',
    'end',
    'complete -c tollkeeper -f',
    ...tree.flatMap(fishLines),
  ];
}

function fishLines(command: CompletableCommand): readonly string[] {
  const condition = `-n 'test (__tollkeeper_command) = "${leadOf(command)}"'`;
  const line = (...parts: readonly string[]): string => ['complete -c tollkeeper', condition, ...parts].join(' ');
  const { commands, options, argument } = command;
  return [
    ...commands.map(({ name, description }) => line('-a', name, '-d', quoted(description))),
    ...options.map(({ names, description, value }) =>
      line(...names.map(fishName), ...fishValue(value), '-d', quoted(description)),
    ),
    ...(argument?.kind === 'choice' ? [line('-a', quoted(argument.choices.join(' ')))] : []),
    ...(argument?.kind === 'file' || argument?.kind === 'folder' ? [line('-F')] : []),
  ];
}

function fishName(name: string): string {
  return name.startsWith('--') ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`;
}

function fishValue(value: CompletableValue | undefined): readonly string[] {
  if (value === undefined) return [];
  if (value.kind === 'choice') return ['-x', '-a', quoted(value.choices.join(' '))];
  return value.kind === 'text' ? ['-x'] : ['-r', '-F'];
}

function commandPatterns(tree: Tree): readonly string[] {
  return tree.filter(({ path }) => path.length > 0).map((command) => quoted(leadOf(command)));
}

function patternsOf(command: CompletableCommand, names: readonly string[]): readonly string[] {
  return names.map((name) => quoted(`${leadOf(command)} ${name}`));
}

function namesWithValue({ options }: CompletableCommand): readonly string[] {
  return options.flatMap(({ names, value }) => (value === undefined ? [] : names));
}

function longNames({ names }: CompletableOption): readonly string[] {
  return names.filter((name) => name.startsWith('--'));
}

/** ` token list`; '' for the program. */
function leadOf({ path }: CompletableCommand): string {
  return path.map((name) => ` ${name}`).join('');
}

/** One word for the three shells; what comes in is names and descriptions of our own. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", '’')}'`;
}
