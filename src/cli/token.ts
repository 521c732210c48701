/**
 * `tollkeeper token create|import|list|show|update|rotate|revoke|activate|deactivate|delete|reveal`; `rekey` has its own
 * file, and so has the import of many.
 */
import type { Command } from 'commander';
import type { IssuedToken, Operations, TokenName } from '../management/operations.js';
import type { TokenView } from '../token/token.js';
import type { CliContext, RegisterCommand } from './context.js';
import { wholeNumber } from './limit-flags.js';
import { withOperations } from './operations.js';
import { addJsonOption, printJson, printTable } from './output.js';
import { addPageOptions, type PageFlags, pageOf } from './page-option.js';
import {
  addSettingOptions,
  addUpdateOptions,
  changesInput,
  draftInput,
  type TokenFlags,
  type UpdateFlags,
} from './token-flags.js';
import { registerTokenImport } from './token-import.js';
import { registerTokenRekey } from './token-rekey.js';
import { printToken, tokenColumns, tokenRow } from './token-text.js';

interface JsonFlag {
  readonly json?: true;
}

interface NameFlag {
  readonly tenant?: string;
}

/** Registers the command and its subcommands. */
export const registerToken: RegisterCommand = (program, context) => {
  const token = program.command('token').description('tokens: what a client shows to be let through');
  /** Runs one operation on a token and prints what became of it. */
  const change = async (
    command: Command,
    flags: JsonFlag,
    operation: (operations: Operations) => Promise<TokenView>,
  ): Promise<void> => {
    printToken(context, await withOperations(command, context, operation), flags.json === true);
  };

  const create = token.command('create').description('create a token; its secret is shown once');
  create
    .requiredOption('--tenant <slug>', 'the tenant it belongs to')
    .requiredOption('--name <name>', 'name for people');
  create.option('--mode <mode>', 'bearer (default) or hmac');
  addJsonOption(addSettingOptions(create)).action(async (flags: TokenFlags & JsonFlag, command: Command) => {
    const input = { ...draftInput(flags), ...(flags.mode === undefined ? {} : { mode: flags.mode }) };
    // Wrong usage is told before anything is asked.
    const { parseTokenDraft } = await import('../token/draft.js');
    parseTokenDraft(input, Date.now());
    const create = (operations: Operations) => operations.createToken(flags.tenant as string, input);
    printIssued(context, await withOperations(command, context, create), flags);
  });

  registerTokenImport(token, context);

  const list = token.command('list').description("list a tenant's tokens");
  list.requiredOption('--tenant <slug>', 'the tenant');
  addJsonOption(addPageOptions(list)).action(
    async (flags: PageFlags & JsonFlag & { tenant: string }, command: Command) => {
      const page = pageOf(flags);
      const found = await withOperations(command, context, (operations) => operations.listTokens(flags.tenant, page));
      if (flags.json === true) printJson(context, found);
      else printTable(context, tokenColumns, found.data.map(tokenRow), 'no tokens');
    },
  );

  const show = token.command('show <id>').description('show a token (never its secret)');
  addJsonOption(addNameOption(show)).action((id: string, flags: NameFlag & JsonFlag, command: Command) =>
    change(command, flags, (operations) => operations.showToken(nameOf(id, flags))),
  );

  const update = token.command('update <id>').description('change a token; what is not named stays, the secret too');
  addJsonOption(addUpdateOptions(addNameOption(update))).action(
    (id: string, flags: UpdateFlags & NameFlag & JsonFlag, command: Command) =>
      change(command, flags, (operations) =>
        operations.updateToken(nameOf(id, flags), (current: TokenView) => changesInput(flags, current)),
      ),
  );

  const rotate = token.command('rotate <id>').description('draw a new secret; the old one is invalid at once');
  rotate.option('--grace <seconds>', 'let the old secret live on for so long, at most 30 days', wholeNumber);
  addJsonOption(addNameOption(rotate)).action(
    async (id: string, flags: NameFlag & JsonFlag & { grace?: number }, command: Command) => {
      const rotation = flags.grace === undefined ? {} : { graceSeconds: flags.grace };
      const rotate = (operations: Operations) => operations.rotateToken(nameOf(id, flags), rotation);
      printIssued(context, await withOperations(command, context, rotate), flags);
    },
  );

  const switches = {
    revoke: ['end a token at once and for ever', 'revokeToken'],
    activate: ['switch a token on', 'activateToken'],
    deactivate: ['switch a token off', 'deactivateToken'],
  } as const;
  for (const [verb, [description, operation]] of Object.entries(switches)) {
    const command = token.command(`${verb} <id>`).description(description);
    addJsonOption(addNameOption(command)).action((id: string, flags: NameFlag & JsonFlag) =>
      change(command, flags, (operations) => operations[operation](nameOf(id, flags))),
    );
  }

  const remove = token.command('delete <id>').description('delete a token; its logs stay until their retention');
  addJsonOption(addNameOption(remove)).action(async (id: string, flags: NameFlag & JsonFlag, command: Command) => {
    await withOperations(command, context, (operations) => operations.deleteToken(nameOf(id, flags)));
    if (flags.json === true) printJson(context, { deleted: id });
    else context.out(`Token ${id} is deleted.`);
  });

  const reveal = token
    .command('reveal <id>')
    .description('show the secret of an HMAC token again, if its tenant allows');
  addJsonOption(addNameOption(reveal)).action(async (id: string, flags: NameFlag & JsonFlag, command: Command) => {
    const revealed = await withOperations(command, context, (operations) => operations.revealToken(nameOf(id, flags)));
    if (flags.json === true) printJson(context, revealed);
    else context.out(revealed.secret);
  });

  registerTokenRekey(token, context);
};

function addNameOption(command: Command): Command {
  return command.option('--tenant <slug>', 'the tenant it belongs to (default: it is looked for)');
}

function nameOf(id: string, { tenant }: NameFlag): TokenName {
  return tenant === undefined ? { id } : { id, tenant };
}

function printIssued(context: CliContext, { token, secret }: IssuedToken, flags: JsonFlag): void {
  if (flags.json === true) return printJson(context, { token, secret });
  printToken(context, token, false);
  context.out('');
  context.out(secret);
  context.err('This is the secret. It is shown this once: keep it now.');
}
