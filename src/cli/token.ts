/** `tollkeeper token create|import|list|show|update|rotate|revoke|activate|deactivate|delete`; `rekey` has its own file. */
import type { Command } from 'commander';
import type { Config } from '../config/schema.js';
import { parseMasterKeys, sealSecret } from '../credential/sealed-secret.js';
import type { Store } from '../redis/store.js';
import { TenantRepository } from '../tenant/repository.js';
import { parseImportDraft, parseRotation, parseTokenChanges, parseTokenDraft } from '../token/draft.js';
import { readLastUsed } from '../token/last-used.js';
import { TokenRepository } from '../token/repository.js';
import { type TokenRecord, type TokenView, toTokenView } from '../token/token.js';
import { configOf } from './config-option.js';
import type { CliContext, RegisterCommand } from './context.js';
import { wholeNumber } from './limit-flags.js';
import { addJsonOption, printJson, printTable } from './output.js';
import { addPageOptions, listAnswer, type PageFlags, pageOf } from './page-option.js';
import { withLogRedis, withStore } from './store-session.js';
import {
  addSettingOptions,
  addUpdateOptions,
  changesInput,
  draftInput,
  type TokenFlags,
  type UpdateFlags,
} from './token-flags.js';
import { registerTokenRekey } from './token-rekey.js';
import { printToken, tokenColumns, tokenRow } from './token-text.js';

interface JsonFlag {
  readonly json?: true;
}

interface TokenSession {
  readonly config: Config;
  readonly store: Store;
  readonly tokens: TokenRepository;
}

/** Registers the command and its subcommands. */
export const registerToken: RegisterCommand = (program, context) => {
  const token = program.command('token').description('tokens: what a client shows to be let through');
  const withTokens = <T>(command: Command, use: (session: TokenSession) => Promise<T>): Promise<T> => {
    const config = configOf(command, context);
    return withStore(config, (store) => use({ config, store, tokens: tokenRepository(store, config) }));
  };
  /** Runs one operation on a token and prints what became of it. */
  const change = (
    command: Command,
    flags: JsonFlag,
    operation: (tokens: TokenRepository) => Promise<TokenRecord>,
  ): Promise<void> =>
    withTokens(command, async ({ config, store, tokens }) => {
      const record = await operation(tokens);
      const [view] = await viewsOf(context, config, store, record.tenant, [record]);
      printToken(context, view as TokenView, flags.json === true);
    });

  const create = token.command('create').description('create a token; its secret is shown once');
  create
    .requiredOption('--tenant <slug>', 'the tenant it belongs to')
    .requiredOption('--name <name>', 'name for people');
  create.option('--mode <mode>', 'bearer (default) or hmac');
  addJsonOption(addSettingOptions(create)).action(async (flags: TokenFlags & JsonFlag, command: Command) => {
    const draft = parseTokenDraft({ ...draftInput(flags), mode: flags.mode }, Date.now());
    const issued = await withTokens(command, ({ tokens }) => tokens.create(flags.tenant as string, draft));
    printIssued(context, toTokenView(issued.record, null), issued.secret, flags);
  });

  const importing = token.command('import').description('import a token that another system issued, by its SHA-256');
  importing
    .requiredOption('--tenant <slug>', 'the tenant it belongs to')
    .requiredOption('--name <name>', 'name for people');
  importing.requiredOption('--sha256 <hex>', 'SHA-256 of the whole token');
  addJsonOption(addSettingOptions(importing)).action(
    async (flags: TokenFlags & JsonFlag & { sha256: string }, command: Command) => {
      const draft = parseImportDraft({ ...draftInput(flags), sha256: flags.sha256 }, Date.now());
      const record = await withTokens(command, ({ tokens }) => tokens.import(flags.tenant as string, draft));
      const view = toTokenView(record, null);
      if (flags.json === true) printJson(context, { token: view });
      else printToken(context, view, false);
    },
  );

  const list = token.command('list').description("list a tenant's tokens");
  list.requiredOption('--tenant <slug>', 'the tenant');
  addJsonOption(addPageOptions(list)).action(
    async (flags: PageFlags & JsonFlag & { tenant: string }, command: Command) => {
      const page = pageOf(flags);
      await withTokens(command, async ({ config, store, tokens }) => {
        await new TenantRepository(store).get(flags.tenant);
        const { records, total } = await tokens.list(flags.tenant, page);
        const views = await viewsOf(context, config, store, flags.tenant, records);
        if (flags.json === true) printJson(context, listAnswer(views, total, page));
        else printTable(context, tokenColumns, views.map(tokenRow), 'no tokens');
      });
    },
  );

  const show = token.command('show <id>').description('show a token (never its secret)');
  addJsonOption(show).action((id: string, flags: JsonFlag, command: Command) =>
    change(command, flags, (tokens) => tokens.get(id)),
  );

  const update = token.command('update <id>').description('change a token; what is not named stays, the secret too');
  addJsonOption(addUpdateOptions(update)).action((id: string, flags: UpdateFlags & JsonFlag, command: Command) => {
    const nowMs = Date.now();
    return change(command, flags, (tokens) =>
      tokens.update(id, (record) => parseTokenChanges(changesInput(flags, record), nowMs)),
    );
  });

  const rotate = token.command('rotate <id>').description('draw a new secret; the old one is invalid at once');
  rotate.option('--grace <seconds>', 'let the old secret live on for so long, at most 30 days', wholeNumber);
  addJsonOption(rotate).action((id: string, flags: JsonFlag & { grace?: number }, command: Command) => {
    const rotation = parseRotation({ graceSeconds: flags.grace });
    return withTokens(command, async ({ config, store, tokens }) => {
      const { record, secret } = await tokens.rotate(id, rotation);
      // From here to its only showing nothing may fail: viewsOf does without what it cannot read.
      const [view] = await viewsOf(context, config, store, record.tenant, [record]);
      printIssued(context, view as TokenView, secret, flags);
    });
  });

  const switches = {
    revoke: 'end a token at once and for ever',
    activate: 'switch a token on',
    deactivate: 'switch a token off',
  } as const;
  for (const name of ['revoke', 'activate', 'deactivate'] as const) {
    addJsonOption(token.command(`${name} <id>`).description(switches[name])).action(
      (id: string, flags: JsonFlag, command: Command) => change(command, flags, (tokens) => tokens[name](id)),
    );
  }

  const remove = token.command('delete <id>').description('delete a token; its logs stay until their retention');
  addJsonOption(remove).action(async (id: string, flags: JsonFlag, command: Command) => {
    await withTokens(command, ({ tokens }) => tokens.delete(id));
    if (flags.json === true) printJson(context, { deleted: id });
    else context.out(`Token ${id} is deleted.`);
  });

  registerTokenRekey(token, context);
};

function tokenRepository(store: Store, config: Config): TokenRepository {
  const keys = config.masterKey === undefined ? undefined : parseMasterKeys(config.masterKey);
  return new TokenRepository(store, {
    tokenPrefix: config.tokenPrefix,
    sealSecret: keys && ((plaintext, tokenId) => sealSecret(plaintext, tokenId, keys)),
  });
}

async function viewsOf(
  context: CliContext,
  config: Config,
  store: Store,
  tenant: string,
  records: readonly TokenRecord[],
): Promise<TokenView[]> {
  const ids = records.map(({ id }) => id);
  const lastUsed = await withLogRedis(config, store, context.err, (redis) => readLastUsed(redis, tenant, ids));
  return records.map((record, index) => toTokenView(record, lastUsed?.[index] ?? null));
}

function printIssued(context: CliContext, view: TokenView, secret: string, flags: JsonFlag): void {
  if (flags.json === true) return printJson(context, { token: view, secret });
  printToken(context, view, false);
  context.out('');
  context.out(secret);
  context.err('This is the secret. It is shown this once and cannot be shown again: keep it now.');
}
