/** `tollkeeper tenant create|list|show|update|delete`. */
import type { Command } from 'commander';
import { OperatorError } from '../core/failure.js';
import type { Store } from '../redis/store.js';
import { parseTenantChanges, parseTenantDraft } from '../tenant/draft.js';
import { TenantRepository } from '../tenant/repository.js';
import { type TenantView, toTenantView } from '../tenant/tenant.js';
import { TokenRepository } from '../token/repository.js';
import { removeTenant } from '../token/tenant-removal.js';
import { configOf } from './config-option.js';
import type { CliContext, RegisterCommand } from './context.js';
import { addRateLimitOptions, type RateLimitFlags, rateLimitOf, wholeNumber } from './limit-flags.js';
import { limitText } from './limit-text.js';
import { addJsonOption, printFields, printJson, printTable } from './output.js';
import { addPageOptions, listAnswer, type PageFlags, pageOf } from './page-option.js';
import { withStore } from './store-session.js';

interface JsonFlag {
  readonly json?: true;
}

interface TenantFlags extends RateLimitFlags, JsonFlag {
  readonly name?: string;
  readonly maxTokens?: number;
  readonly requireHttps?: boolean;
  readonly clearLimit?: true;
}

/** Registers the command and its subcommands. */
export const registerTenant: RegisterCommand = (program, context) => {
  const tenant = program.command('tenant').description('tenants (stores): each has its own tokens and logs');
  /** The action of a subcommand on a store that holds data. */
  const onTenants = <T>(command: Command, use: (tenants: TenantRepository, store: Store) => Promise<T>): Promise<T> =>
    withStore(configOf(command, context), (store) => use(new TenantRepository(store), store));

  const create = tenant.command('create <slug>').description('create a tenant; the first one initialises the Redis');
  create.requiredOption('--name <name>', 'name for people');
  addSettings(create).action(async (slug: string, flags: TenantFlags, command: Command) => {
    const { json: _, ...settings } = settingsOf(flags);
    const draft = parseTenantDraft({ slug, ...settings });
    const open = { mayBeEmpty: true };
    const config = configOf(command, context);
    const record = await withStore(config, (store) => new TenantRepository(store).create(draft), open);
    printTenant(context, toTenantView(record), flags);
  });

  const list = tenant.command('list').description('list the tenants');
  addJsonOption(addPageOptions(list)).action(async (flags: PageFlags & JsonFlag, command: Command) => {
    const page = pageOf(flags);
    const { records, total } = await onTenants(command, (tenants) => tenants.list(page));
    const views = records.map(toTenantView);
    if (flags.json === true) return printJson(context, listAnswer(views, total, page));
    const columns = ['slug', 'name', 'state', 'max tokens', 'https only', 'limit', 'created'];
    printTable(
      context,
      columns,
      views.map((view) => [
        view.slug,
        view.name,
        view.state,
        view.maxTokens,
        view.requireHttps ? 'yes' : 'no',
        view.rateLimit && limitText(view.rateLimit),
        view.createdAt,
      ]),
      'no tenants',
    );
  });

  const show = tenant.command('show <slug>').description('show a tenant');
  addJsonOption(show).action(async (slug: string, flags: JsonFlag, command: Command) => {
    printTenant(context, toTenantView(await onTenants(command, (tenants) => tenants.get(slug))), flags);
  });

  const update = tenant.command('update <slug>').description('change a tenant; what is not named stays');
  update.option('--name <name>', 'name for people').option('--clear-limit', 'take the tenant-wide rate limit away');
  update.option('--no-require-https', 'let its tokens be used on plain HTTP');
  addSettings(update).action(async (slug: string, flags: TenantFlags, command: Command) => {
    const { json: _, ...settings } = settingsOf(flags);
    const changes = parseTenantChanges(settings);
    printTenant(context, toTenantView(await onTenants(command, (tenants) => tenants.update(slug, changes))), flags);
  });

  const remove = tenant.command('delete <slug>').description('delete a tenant; its logs stay until their retention');
  remove.option('--force', 'delete its tokens too');
  addJsonOption(remove).action(async (slug: string, flags: JsonFlag & { force?: true }, command: Command) => {
    const config = configOf(command, context);
    const force = flags.force === true;
    await onTenants(command, (tenants, store) =>
      removeTenant(tenants, new TokenRepository(store, { tokenPrefix: config.tokenPrefix }), slug, { force }),
    );
    if (flags.json === true) printJson(context, { deleted: slug });
    else context.out(`Tenant ${slug} is deleted.`);
  });
};

function addSettings(command: Command): Command {
  command.option('--max-tokens <n>', 'places for tokens (25)', wholeNumber);
  command.option('--require-https', 'refuse its tokens on plain HTTP');
  return addJsonOption(addRateLimitOptions(command));
}

/** The flags as the drafts take them; only what was given. */
function settingsOf({ limit, window, algorithm, burst, clearLimit, ...rest }: TenantFlags) {
  const rateLimit = rateLimitOf({ limit, window, algorithm, burst });
  if (clearLimit !== true) return rateLimit === undefined ? rest : { ...rest, rateLimit };
  if (rateLimit !== undefined) throw new OperatorError('--clear-limit goes without the flags of a limit.', 2);
  return { ...rest, rateLimit: null };
}

function printTenant(context: CliContext, view: TenantView, flags: JsonFlag): void {
  if (flags.json === true) return printJson(context, view);
  printFields(context, {
    slug: view.slug,
    name: view.name,
    state: view.state,
    'max tokens': view.maxTokens,
    'https only': view.requireHttps ? 'yes' : 'no',
    limit: view.rateLimit && limitText(view.rateLimit),
    created: view.createdAt,
    version: view.version,
  });
}
