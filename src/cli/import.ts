/** `tollkeeper import FILE`: restores a backup; everything about the file is checked before anything is written. */
import { writeFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { type BackupSummary, inspectBackup } from '../backup/inspect.js';
import { restoreBackup, type RestoreReport } from '../backup/restore.js';
import type { Config } from '../config/schema.js';
import { OperatorError } from '../core/failure.js';
import { parseMasterKeys } from '../credential/sealed-secret.js';
import { configOf } from './config-option.js';
import type { CliContext, RegisterCommand } from './context.js';
import { countsText } from './export.js';
import { interruptible, ProgressLine } from './long-work.js';
import { addJsonOption, printJson } from './output.js';
import { withManagement } from './operations.js';
import { refuseServer } from './server-option.js';

interface ImportFlags {
  readonly dryRun?: true;
  readonly merge?: true;
  readonly policyTo?: string;
  readonly json?: true;
}

/** Registers the command. */
export const registerImport: RegisterCommand = (program, context) => {
  const command = program
    .command('import <file>')
    .description('restore a backup into an empty Redis, or add what is missing to one that is not')
    .option('--dry-run', 'only check the file and its master keys; needs no Redis')
    .option('--merge', 'add the tenants and tokens that are missing here; what is there stays as it is')
    .option('--policy-to <file>', 'write the policy of the backup into this new file');
  addJsonOption(command).action(async (path: string, flags: ImportFlags) => {
    refuseServer(command);
    const config = configOf(command, context);
    const file = await openBackup(path);
    try {
      const masterKeys = config.masterKey === undefined ? undefined : parseMasterKeys(config.masterKey);
      const summary = await inspectBackup(file, masterKeys);
      if (flags.policyTo !== undefined) writePolicy(flags.policyTo, summary);
      if (flags.dryRun === true) reportChecked(context, path, summary, flags);
      else reportRestored(context, summary, await restore(config, file, summary, flags, context), flags);
    } finally {
      await file.close();
    }
  });
};

async function restore(
  config: Config,
  file: FileHandle,
  summary: BackupSummary,
  flags: ImportFlags,
  context: CliContext,
): Promise<RestoreReport> {
  const total = (summary.counts.tenant ?? 0) + (summary.counts.token ?? 0);
  const progress = new ProgressLine(context, 'restoring', total);
  try {
    return await interruptible((signal) =>
      withManagement(
        config,
        context,
        ({ store, management, principal }) => {
          const merge = flags.merge === true;
          const details = { merge, sha256: summary.sha256, createdAt: summary.header.createdAt };
          return management.audited(principal, { action: 'backup.import', tenant: '', target: 'backup', details }, () =>
            restoreBackup(store, file, summary, {
              merge,
              signal,
              progress: ({ restored, present, conflicts }) => {
                const done = [restored, present].flatMap((counts) => Object.values(counts));
                progress.show(done.reduce((sum, count) => sum + count, conflicts.length));
              },
            }),
          );
        },
        { mayBeEmpty: true },
      ),
    );
  } finally {
    progress.close();
  }
}

async function openBackup(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r');
  } catch (error) {
    throw new OperatorError(`Cannot read ${path} (${(error as NodeJS.ErrnoException).code ?? 'unknown reason'}).`);
  }
}

function writePolicy(path: string, { policy }: BackupSummary): void {
  if (policy === undefined) throw new OperatorError('This backup holds no policy: leave --policy-to out.');
  try {
    writeFileSync(path, policy, { flag: 'wx' });
  } catch (error) {
    throw new OperatorError(`Cannot write ${path} (${(error as NodeJS.ErrnoException).code ?? 'unknown reason'}).`);
  }
}

function reportChecked(context: CliContext, path: string, { header, counts }: BackupSummary, flags: ImportFlags): void {
  const { createdAt, installation, tollkeeper } = header;
  if (flags.json === true) {
    return printJson(context, { dryRun: true, createdAt, installation, tollkeeper, records: counts });
  }
  context.out(`${path} is sound: ${countsText(counts)}, of ${createdAt}.`);
}

function reportRestored(
  context: CliContext,
  { header }: BackupSummary,
  report: RestoreReport,
  flags: ImportFlags,
): void {
  const { createdAt, installation } = header;
  if (flags.json === true) {
    printJson(context, { dryRun: false, createdAt, installation, ...report });
  } else {
    context.out(`Restored ${countsText(report.restored)}; there already: ${countsText(report.present)}.`);
  }
  if (report.conflicts.length > 0) {
    throw new OperatorError(
      `${report.conflicts.length} imported tokens were left out, because other tokens have their secrets by now: ` +
        `${report.conflicts.slice(0, 5).join(', ')}${report.conflicts.length > 5 ? ', …' : ''}.`,
    );
  }
}
