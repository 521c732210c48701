/**
 * Imports a CSV file of tokens. The whole file is judged before anything is written: its rows, which hashes are there
 * already, and whether the tenant has places for the rest. Then page by page; Ctrl-C ends it between two pages, and
 * importing the file again goes on from there.
 */
import { basename } from 'node:path';
import type { Command } from 'commander';
import { OperatorError } from '../core/failure.js';
import { BulkImport } from '../token/bulk-import.js';
import type { ImportDraft } from '../token/draft.js';
import { configOf } from './config-option.js';
import type { CliContext } from './context.js';
import { interruptible, ProgressLine } from './long-work.js';
import { type ManagementSession, withManagement } from './operations.js';
import { printable, printJson } from './output.js';
import { refuseServer } from './server-option.js';
import { readTokenCsv, type RowDefaults } from './token-csv.js';
import { draftInput } from './token-flags.js';
import type { ImportFlags } from './token-import.js';

/** Rows that are written and confirmed together. */
const pageRows = 500;
/** Faults of rows that are told one by one. */
const faultsTold = 20;

interface Judgement {
  rows: number;
  invalid: number;
  /** Tokens of this tenant have them already. */
  present: number;
  /** Tokens of another tenant have them. */
  elsewhere: number;
  /** To be imported. */
  fresh: number;
}

interface Source {
  readonly path: string;
  readonly defaults: RowDefaults;
  readonly nowMs: number;
}

/** Runs the command. @throws OperatorError that says what is wrong and what to do. */
export async function importCsv(
  command: Command,
  context: CliContext,
  path: string,
  flags: ImportFlags,
): Promise<void> {
  refuseServer(command);
  const { name, ...settings } = draftInput(flags);
  const defaults = name === undefined ? settings : { ...settings, name };
  const source: Source = { path, defaults, nowMs: Date.now() };
  await withManagement(configOf(command, context), context, async (session) => {
    const tenant = await session.management.tenants.get(flags.tenant);
    const bulk = new BulkImport(session.store, session.management.tokens, tenant.slug);
    const judged = await interruptible((signal) => judge(bulk, source, context, signal));
    refuseBad(judged, flags);
    const places = tenant.maxTokens - (await session.management.tenants.countTokens(tenant.slug));
    if (judged.fresh > places) {
      throw new OperatorError(
        `Tenant ${tenant.slug} has ${Math.max(0, places)} places left for ${judged.fresh} new tokens: raise its limit with ` +
          `tollkeeper tenant update ${tenant.slug} --max-tokens ${tenant.maxTokens - places + judged.fresh}; nothing was imported.`,
      );
    }
    const done =
      flags.dryRun === true ? { imported: 0, present: 0 } : await write(session, bulk, source, judged, flags, context);
    report(context, flags, judged, done.imported);
  });
}

async function judge(bulk: BulkImport, source: Source, context: CliContext, signal: AbortSignal): Promise<Judgement> {
  const judged: Judgement = { rows: 0, invalid: 0, present: 0, elsewhere: 0, fresh: 0 };
  const progress = new ProgressLine(context, 'checking');
  const faults: string[] = [];
  let page: { line: number; sha256: string }[] = [];
  const examine = async (): Promise<void> => {
    if (signal.aborted) throw new OperatorError('The import was broken off before anything was imported.');
    const standings = await bulk.examine(page.map(({ sha256 }) => sha256));
    for (const [index, standing] of standings.entries()) {
      if (standing === 'free') judged.fresh += 1;
      else judged[standing] += 1;
      if (standing === 'elsewhere')
        faults.push(`line ${page[index]?.line}, column sha256 was imported for another tenant`);
    }
    page = [];
    progress.show(judged.rows);
  };
  try {
    for await (const row of readTokenCsv(source.path, source.defaults, source.nowMs)) {
      judged.rows += 1;
      if (row.draft === undefined) {
        judged.invalid += 1;
        if (faults.length < faultsTold) faults.push(row.fault);
      } else if (page.push({ line: row.line, sha256: row.draft.sha256 }) === pageRows) await examine();
    }
    if (page.length > 0) await examine();
  } finally {
    progress.close();
    for (const fault of faults.slice(0, faultsTold)) context.err(printable(`tollkeeper: ${source.path}: ${fault}`));
  }
  return judged;
}

function refuseBad({ rows, invalid, elsewhere }: Judgement, { skipInvalid }: ImportFlags): void {
  const bad = invalid + elsewhere;
  if (bad === 0 || skipInvalid === true) return;
  const listed = bad > faultsTold ? ` (the first ${faultsTold} are listed)` : '';
  throw new OperatorError(
    `${bad} of ${rows} rows cannot be imported${listed}: mend them, or leave them out with --skip-invalid; nothing was imported.`,
  );
}

async function write(
  { store, management, principal }: ManagementSession,
  bulk: BulkImport,
  source: Source,
  judged: Judgement,
  { tenant }: ImportFlags,
  context: CliContext,
): Promise<{ imported: number; present: number }> {
  const done = { imported: 0, present: 0 };
  const progress = new ProgressLine(context, 'importing', judged.fresh + judged.present);
  const details = { file: basename(source.path), rows: judged.rows, fresh: judged.fresh };
  const change = { action: 'token.import', tenant, target: `tenant:${tenant}`, details };
  const writePage = async (page: readonly ImportDraft[]): Promise<void> => {
    const { imported, present } = await store.confirmed(`${page.length} tokens`, () => bulk.import(page));
    done.imported += imported;
    done.present += present;
    progress.show(done.imported + done.present);
  };
  try {
    await interruptible((signal) =>
      management.audited(principal, change, async () => {
        for await (const page of pagesOf(source)) {
          if (signal.aborted) {
            throw new OperatorError(
              `The import was broken off after ${done.imported} tokens, each of them whole: import the same file again to go on.`,
            );
          }
          // Rows of another tenant were told when the file was judged.
          await writePage(judged.elsewhere === 0 ? page : await withoutElsewhere(bulk, page));
        }
      }),
    );
  } finally {
    progress.close();
  }
  return done;
}

async function* pagesOf(source: Source): AsyncGenerator<readonly ImportDraft[]> {
  let page: ImportDraft[] = [];
  for await (const { draft } of readTokenCsv(source.path, source.defaults, source.nowMs)) {
    if (draft === undefined || page.push(draft) < pageRows) continue;
    yield page;
    page = [];
  }
  if (page.length > 0) yield page;
}

async function withoutElsewhere(bulk: BulkImport, page: readonly ImportDraft[]): Promise<readonly ImportDraft[]> {
  const standings = await bulk.examine(page.map(({ sha256 }) => sha256));
  return page.filter((_, index) => standings[index] !== 'elsewhere');
}

function report(context: CliContext, flags: ImportFlags, judged: Judgement, imported: number): void {
  const { rows, invalid, elsewhere, present, fresh } = judged;
  const dryRun = flags.dryRun === true;
  const skipped = invalid + elsewhere;
  if (flags.json === true) {
    return printJson(context, {
      dryRun,
      rows,
      imported,
      present: rows - skipped - (dryRun ? fresh : imported),
      skipped,
    });
  }
  const left = skipped === 0 ? '' : `, ${skipped} left out`;
  if (dryRun) context.out(`${fresh} tokens would be imported, ${present} are there already${left}.`);
  else context.out(`${imported} tokens imported, ${rows - skipped - imported} were there already${left}.`);
}
