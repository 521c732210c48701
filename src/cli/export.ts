/** `tollkeeper export FILE`: writes a backup, whole or not at all, readable by its owner alone. */
import { existsSync, readFileSync } from 'node:fs';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { packageVersion } from '../app/version.js';
import { exportBackup } from '../backup/export.js';
import type { BackupCounts } from '../backup/format.js';
import type { Config } from '../config/schema.js';
import { OperatorError } from '../core/failure.js';
import { configOf } from './config-option.js';
import type { CliContext, RegisterCommand } from './context.js';
import { interruptible, ProgressLine } from './long-work.js';
import { addJsonOption, printJson } from './output.js';
import { withManagement } from './operations.js';
import { refuseServer } from './server-option.js';

interface ExportFlags {
  readonly withPolicy?: true;
  readonly force?: true;
  readonly json?: true;
}

/** Registers the command. */
export const registerExport: RegisterCommand = (program, context) => {
  const command = program
    .command('export <file>')
    .description('write a backup: tenants, tokens (hashes and sealed secrets) and users, in one file')
    .option('--with-policy', 'put the text of the policy file in, too')
    .option('--force', 'replace a file that is there');
  addJsonOption(command).action(async (path: string, flags: ExportFlags) => {
    refuseServer(command);
    const config = configOf(command, context);
    const policy = flags.withPolicy === true ? policyText(config) : undefined;
    if (flags.force !== true && existsSync(path)) {
      throw new OperatorError(`${path} is there already: choose another name, or replace it with --force.`);
    }
    const progress = new ProgressLine(context, 'exporting');
    const counts = await interruptible((signal) =>
      writeWhole(path, (write) =>
        withManagement(config, context, ({ store, management, principal }) =>
          management.audited(principal, { action: 'backup.export', tenant: '', target: 'backup' }, () =>
            exportBackup(store, {
              tollkeeper: packageVersion(),
              nowMs: Date.now(),
              policy,
              write: async (text) => {
                if (signal.aborted) throw new OperatorError('The export was broken off: no file was written.');
                await write(text);
              },
              progress: (soFar) => progress.show((soFar.tenant ?? 0) + (soFar.token ?? 0)),
            }),
          ),
        ),
      ),
    ).finally(() => progress.close());
    report(context, path, counts, flags);
  });
};

function report(context: CliContext, path: string, counts: BackupCounts, flags: ExportFlags): void {
  if (flags.json === true) return printJson(context, { file: path, records: counts });
  context.out(`${path}: ${countsText(counts)}.`);
  context.err('It holds no secret that works without the master keys; keep those elsewhere (docs/backup.md).');
}

/** `2 tenants, 40 tokens`. */
export function countsText(counts: BackupCounts): string {
  const names: Readonly<Record<string, string>> = {
    tenant: 'tenant',
    token: 'token',
    user: 'user',
    adminKey: 'admin key',
  };
  const shown = Object.entries(names).filter(
    ([kind]) => kind === 'tenant' || kind === 'token' || (counts[kind] ?? 0) > 0,
  );
  return shown.map(([kind, name]) => `${counts[kind] ?? 0} ${name}${counts[kind] === 1 ? '' : 's'}`).join(', ');
}

/**
 * Lets `produce` write into a new file beside the one asked for, which it becomes when all of it is on disk.
 * @throws OperatorError when the file cannot be written; what `produce` throws, and then there is no file.
 */
async function writeWhole<T>(
  path: string,
  produce: (write: (text: string) => Promise<void>) => Promise<T>,
): Promise<T> {
  const partPath = `${path}.${process.pid}.part`;
  let file: FileHandle;
  try {
    file = await open(partPath, 'wx', 0o600);
  } catch (error) {
    throw cannotWrite(path, error);
  }
  try {
    const result = await produce(async (text) => {
      await file.writeFile(text).catch((error: unknown) => Promise.reject(cannotWrite(path, error)));
    });
    await file.sync();
    await file.close();
    await rename(partPath, path);
    return result;
  } catch (error) {
    await file.close().catch(() => {});
    await rm(partPath, { force: true });
    throw error instanceof OperatorError || (error as NodeJS.ErrnoException).syscall === undefined
      ? error
      : cannotWrite(path, error);
  }
}

function cannotWrite(path: string, error: unknown): OperatorError {
  return new OperatorError(`Cannot write ${path} (${(error as NodeJS.ErrnoException).code ?? 'unknown reason'}).`);
}

function policyText({ policy }: Config): string {
  if (policy?.kind !== 'file') {
    throw new OperatorError('--with-policy needs a policy file: set TOLLKEEPER_POLICY.', 2);
  }
  try {
    return readFileSync(policy.path, 'utf8');
  } catch (error) {
    throw new OperatorError(
      `Cannot read the policy file ${policy.path} (${(error as NodeJS.ErrnoException).code ?? 'unknown reason'}).`,
    );
  }
}
