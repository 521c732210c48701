/** `tollkeeper audit list|verify`: who changed what, and whether the record of it is whole. */
import type { Command } from 'commander';
import { OperatorError } from '../core/failure.js';
import type { AuditView } from '../management/audit-view.js';
import type { RegisterCommand } from './context.js';
import { withOperations } from './operations.js';
import { addJsonOption, printJson, printTable } from './output.js';
import { addPageOptions, type PageFlags, pageOf } from './page-option.js';
import { pastTime } from './past-time.js';

interface ListFlags extends PageFlags {
  readonly tenant?: string;
  readonly action?: string;
  readonly actor?: string;
  readonly target?: string;
  readonly result?: string;
  readonly since?: string;
  readonly until?: string;
  readonly json?: true;
}

/** Registers the command and its subcommands. */
export const registerAudit: RegisterCommand = (program, context) => {
  const audit = program.command('audit').description('the audit log: who changed what, when and from where');

  const list = audit.command('list', { isDefault: true }).description('list the records, newest first');
  list
    .option('--tenant <slug>', 'only what is about this tenant')
    .option('--action <action>', 'only this action (token.revoke) or kind (token)')
    .option('--actor <name>', 'only what this one did')
    .option('--target <target>', 'only what was done to this, such as token:ID')
    .option('--result <result>', 'attempted, done, refused, failed or unconfirmed')
    .option('--since <time>', 'from this time on: 10m, 2h, 7d or an RFC 3339 time')
    .option('--until <time>', 'before this time');
  addJsonOption(addPageOptions(list)).action(async (flags: ListFlags, command: Command) => {
    const { tenant, action, actor, target, result, since, until } = flags;
    const page = pageOf(flags);
    const nowMs = Date.now();
    const filter = {
      tenant,
      action,
      actor,
      target,
      result,
      fromMs: since === undefined ? undefined : pastTime('--since', since, nowMs),
      toMs: until === undefined ? undefined : pastTime('--until', until, nowMs),
    };
    const found = await withOperations(command, context, (operations) => operations.listAudit(filter, page));
    if (flags.json === true) return printJson(context, found);
    const columns = ['number', 'time', 'actor', 'action', 'target', 'result', 'details'];
    printTable(context, columns, found.data.map(rowOf), 'no records');
  });

  const verify = audit
    .command('verify')
    .description('check that no record was changed, taken out or put in; 1 if one was');
  verify.option('--known <number:hash>', 'head of an earlier verification, which must still be there');
  addJsonOption(verify).action(async (flags: { known?: string; json?: true }, command: Command) => {
    const known = flags.known === undefined ? undefined : chainPoint(flags.known);
    const found = await withOperations(command, context, (operations) => operations.verifyAudit(known));
    if (flags.json === true) printJson(context, found);
    else {
      for (const { message } of found.faults) context.out(message);
      context.out(`${found.records} records, ${found.openAttempts} attempts without an outcome.`);
      context.out(`Head: ${found.head.seq}:${found.head.hash} (keep it elsewhere, for --known).`);
    }
    if (!found.intact) throw new OperatorError('The audit log is not whole: see what is said of its records.');
  });
};

function rowOf({ seq, at, actor, action, target, result, attempt, details }: AuditView) {
  const who = actor.address === '' ? actor.name : `${actor.name} ${actor.address}`;
  const outcome = attempt === null ? result : `${result} (of ${attempt})`;
  return [seq, at, who, action, target, outcome, Object.keys(details).length === 0 ? '' : JSON.stringify(details)];
}

function chainPoint(text: string): { seq: number; hash: string } {
  const [, seq, hash] = /^(\d{1,15}):([0-9a-f]{64})$/.exec(text) ?? [];
  if (seq !== undefined && hash !== undefined) return { seq: Number(seq), hash };
  throw new OperatorError('--known takes the head as audit verify prints it, NUMBER:HASH.', 2);
}
