/** Wrong usage in one sentence, from what commander says in several lines. */
import type { Command, CommanderError } from 'commander';
import { printable } from './output.js';

/** The sentence for `error`, met in `command`, which is typed as `path`. Names where the usage is told. */
export function usageSentence(error: CommanderError, command: Command, path: string): string {
  const found = error.code === 'commander.help' ? missingSubcommand(command) : complaint(error);
  return `${printable(found)}: see ${path} --help.`;
}

function missingSubcommand(command: Command): string {
  const names = command.commands.map((below) => below.name()).filter((name) => name !== 'help');
  return `${command.parent === null ? 'name a command' : `${command.name()} needs one of its commands`} (${names.join(', ')})`;
}

function complaint(error: CommanderError): string {
  const text = error.message.replace(/^error: /, '');
  return (
    text
      // What stands behind = may be a secret.
      .replace(/^(unknown option '[^=']*)=.*'/s, "$1'")
      // A suggestion stands on a line of its own.
      .replace(/\n\(Did you mean (.*)\?\)/, ' (did you mean $1?)')
      .replace(/ is invalid\. It /, ' is invalid, it ')
      .replace(/^command-argument value /, '')
      .replace(/ is invalid( for argument '.*')?\. Allowed choices are /, ' is invalid$1, choose one of ')
      .replaceAll('\n', ' ')
      .replace(/\.$/, '')
  );
}
