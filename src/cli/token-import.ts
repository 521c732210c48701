/** `tollkeeper token import`: tokens that another system issued, one by its SHA-256 or many from a CSV file. */
import type { Command } from 'commander';
import { OperatorError } from '../core/failure.js';
import type { CliContext } from './context.js';
import { withOperations } from './operations.js';
import { addJsonOption, printJson } from './output.js';
import { addSettingOptions, draftInput, type TokenFlags } from './token-flags.js';
import { printToken } from './token-text.js';

export interface ImportFlags extends TokenFlags {
  readonly tenant: string;
  readonly sha256?: string;
  readonly csv?: string;
  readonly dryRun?: true;
  readonly skipInvalid?: true;
  readonly json?: true;
}

/** Registers `import` below `token`. */
export function registerTokenImport(token: Command, context: CliContext): void {
  const command = token
    .command('import')
    .description('import tokens that another system issued: one by its SHA-256, or many from a CSV file')
    .requiredOption('--tenant <slug>', 'the tenant they belong to')
    .option('--sha256 <hex>', 'SHA-256 of the whole token')
    .option('--csv <file>', 'CSV file with a row for each token; the other options hold where a row says nothing')
    .option('--dry-run', 'with --csv: change nothing, only say what would be done')
    .option('--skip-invalid', 'with --csv: import the sound rows although others are not')
    .option('--name <name>', 'name for people');
  addJsonOption(addSettingOptions(command))
    .addHelpText('after', '\nColumns of the CSV file: docs/cli.md. Importing it again goes on where it was broken off.')
    .action(async (flags: ImportFlags) => {
      if ((flags.sha256 === undefined) === (flags.csv === undefined)) {
        throw new OperatorError('Give either --sha256 HEX or --csv FILE.', 2);
      }
      if (flags.csv !== undefined) {
        // Loaded here: nothing else needs the CSV parser.
        const { importCsv } = await import('./token-import-csv.js');
        return importCsv(command, context, flags.csv, flags);
      }
      if (flags.dryRun === true || flags.skipInvalid === true) {
        throw new OperatorError('--dry-run and --skip-invalid go with --csv FILE.', 2);
      }
      const input = { ...draftInput(flags), sha256: flags.sha256 };
      const view = await withOperations(command, context, (operations) => operations.importToken(flags.tenant, input));
      if (flags.json === true) printJson(context, { token: view });
      else printToken(context, view, false);
      return undefined;
    });
}
