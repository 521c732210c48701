/** What a shell must know to complete a command line, read off the tree of commands. */
import type { Command, Option } from 'commander';
import { commandsBelow } from './program.js';

/** What may stand as the value of an option or as an argument. */
export type CompletableValue =
  | { readonly kind: 'file' | 'folder' | 'text' }
  | { readonly kind: 'choice'; readonly choices: readonly string[] };

export interface CompletableOption {
  /** `--json`, or `-X` and `--method`. */
  readonly names: readonly string[];
  readonly description: string;
  /** Undefined: it takes none. */
  readonly value: CompletableValue | undefined;
}

export interface CompletableCommand {
  /** Names from the program on, without it: `['token', 'list']`; empty for the program. */
  readonly path: readonly string[];
  readonly commands: readonly { readonly name: string; readonly description: string }[];
  readonly options: readonly CompletableOption[];
  /** Its first argument. */
  readonly argument: CompletableValue | undefined;
}

/** Every command of the program, hidden options left out. */
export function completionTree(program: Command): readonly CompletableCommand[] {
  const inherited = optionsOf(program).filter(({ names }) => !names.includes('--version'));
  return commandsBelow(program).map((command) => ({
    path: pathOf(command),
    commands: command.commands.map((below) => ({ name: below.name(), description: below.description() })),
    options: command === program ? optionsOf(command) : [...optionsOf(command), ...inheritedBy(command, inherited)],
    argument: argumentOf(command),
  }));
}

function inheritedBy(command: Command, inherited: readonly CompletableOption[]): readonly CompletableOption[] {
  const own = new Set(optionsOf(command).flatMap(({ names }) => names));
  return inherited.filter(({ names }) => !names.some((name) => own.has(name)));
}

function optionsOf(command: Command): readonly CompletableOption[] {
  return command.createHelp().visibleOptions(command).map(optionOf);
}

function optionOf(option: Option): CompletableOption {
  return {
    names: [option.short, option.long].filter((name) => name !== undefined),
    description: option.description,
    value: option.required || option.optional ? valueOf(option.flags, option.argChoices) : undefined,
  };
}

function argumentOf(command: Command): CompletableValue | undefined {
  const [argument] = command.registeredArguments;
  return argument === undefined ? undefined : valueOf(`<${argument.name()}>`, argument.argChoices);
}

function valueOf(flags: string, choices: readonly string[] | undefined): CompletableValue {
  if (choices !== undefined) return { kind: 'choice', choices };
  if (/[<[]file[>\]]/.test(flags)) return { kind: 'file' };
  return { kind: /[<[]folder[>\]]/.test(flags) ? 'folder' : 'text' };
}

function pathOf(command: Command): readonly string[] {
  return command.parent === null ? [] : [...pathOf(command.parent), command.name()];
}
