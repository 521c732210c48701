/** `tollkeeper completion bash|zsh|fish`: prints the script that completes commands and options in a shell. */
import { Argument } from 'commander';
import type { RegisterCommand } from './context.js';
import { completionScript, type Shell, shells } from './completion-script.js';
import { completionTree } from './completion-tree.js';
import { addJsonOption, printJson } from './output.js';
import { allCommands } from './program.js';

/** Registers the command. */
export const registerCompletion: RegisterCommand = (program, context) => {
  const command = program
    .command('completion')
    .description('print the script that completes commands and options in a shell')
    .addArgument(new Argument('<shell>', 'the shell').choices(shells))
    .addHelpText('after', '\nTo use it now: source <(tollkeeper completion bash). For good: put that into ~/.bashrc.');
  addJsonOption(command).action(async (shell: Shell, flags: { json?: true }) => {
    const script = completionScript(shell, completionTree(await allCommands(context)));
    if (flags.json === true) printJson(context, { shell, script });
    else context.out(script);
  });
};
