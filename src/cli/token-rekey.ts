/** `tollkeeper token rekey`: moves HMAC secrets to the first master key of the list. */
import type { Command } from 'commander';
import { requireKey } from '../config/require.js';
import { OperatorError } from '../core/failure.js';
import { rekey, type RekeyReport } from '../credential/rekey.js';
import { parseMasterKeys } from '../credential/sealed-secret.js';
import { configOf } from './config-option.js';
import type { CliContext } from './context.js';
import { addJsonOption, printable, printJson } from './output.js';
import { withManagement } from './operations.js';
import { refuseServer } from './server-option.js';

interface RekeyFlags {
  readonly dryRun?: true;
  readonly json?: true;
}

/** Registers `rekey` below `token`; it ends with 1 when a secret had to be left as it is. */
export function registerTokenRekey(token: Command, context: CliContext): void {
  const command = token
    .command('rekey')
    .description('seal the secrets of HMAC tokens under the first master key, while requests go on')
    .option('--dry-run', 'change nothing, only say what would be changed');
  addJsonOption(command).action(async (flags: RekeyFlags) => {
    refuseServer(command);
    const config = configOf(command, context);
    const keys = parseMasterKeys(requireKey(config, 'masterKey'));
    const dryRun = flags.dryRun === true;
    let leftSaid = 0;
    const progress = (report: RekeyReport): void => {
      context.err(`tollkeeper: ${summary(report, dryRun)}`);
      for (const { message } of report.left.slice(leftSaid)) context.err(`tollkeeper: ${printable(message)}`);
      leftSaid = report.left.length;
    };
    const report = await withManagement(config, context, ({ store, management, principal }) => {
      const move = () => rekey(store, management.tokens, keys, { dryRun, progress });
      if (dryRun) return move();
      const details = { masterKey: keys.sealing.id };
      return management.audited(principal, { action: 'token.rekey', tenant: '', target: 'tokens', details }, move);
    });
    const masterKey = keys.sealing.id;
    if (flags.json === true) printJson(context, { masterKey, dryRun, ...report });
    else context.out(`Master key ${masterKey}: ${summary(report, dryRun)}.`);
    if (report.left.length > 0) {
      throw new OperatorError(
        `${report.left.length} HMAC tokens were left as they are: see what is said of each, then run this again.`,
      );
    }
  });
}

function summary({ moved, current, left }: RekeyReport, dryRun: boolean): string {
  return `${moved} HMAC tokens ${dryRun ? 'to move' : 'moved'}, ${current} there already, ${left.length} left`;
}
