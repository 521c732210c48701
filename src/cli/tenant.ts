/** `tollkeeper tenant create|list|show|update|delete`. */
import type { Command } from 'commander';
import { OperatorError } from '../core/failure.js';
import type { Operations } from '../management/operations.js';
import type { TenantView } from '../tenant/tenant.js';
import type { CliContext, RegisterCommand } from './context.js';
import { addRateLimitOptions, type RateLimitFlags, rateLimitOf, wholeNumber } from './limit-flags.js';
import { limitText } from './limit-text.js';
import { withOperations } from './operations.js';
import { addJsonOption, printFields, printJson, printTable } from './output.js';
import { addPageOptions, type PageFlags, pageOf } from './page-option.js';

interface JsonFlag {
  readonly json?: true;
}

interface TenantFlags extends RateLimitFlags, JsonFlag {
  readonly name?: string;
  readonly maxTokens?: number;
  readonly requireHttps?: boolean;
  readonly revealSecrets?: boolean;
  readonly clearLimit?: true;
}

/** Registers the command and its subcommands. */
export const registerTenant: RegisterCommand = (program, context) => {
  const tenant = program.command('tenant').description('tenants (stores): each has its own tokens and logs');
  const create = tenant.command('create <slug>').description('create a tenant; the first one initialises the Redis');
  create.requiredOption('--name <name>', 'name for people');
  addSettings(create).action(async (slug: string, flags: TenantFlags, command: Command) => {
    const { json: _, ...settings } = settingsOf(flags);
    const create = (operations: Operations) => operations.createTenant({ slug, ...settings });
    printTenant(context, await withOperations(command, context, create, { mayBeEmpty: true }), flags);
  });

  const list = tenant.command('list').description('list the tenants');
  addJsonOption(addPageOptions(list)).action(async (flags: PageFlags & JsonFlag, command: Command) => {
    const page = pageOf(flags);
    const found = await withOperations(command, context, (operations) => operations.listTenants(page));
    if (flags.json === true) return printJson(context, found);
    const columns = ['slug', 'name', 'state', 'max tokens', 'https only', 'limit', 'created'];
    printTable(
      context,
      columns,
      found.data.map((view) => [
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
    printTenant(context, await withOperations(command, context, (operations) => operations.showTenant(slug)), flags);
  });

  const update = tenant.command('update <slug>').description('change a tenant; what is not named stays');
  update.option('--name <name>', 'name for people').option('--clear-limit', 'take the tenant-wide rate limit away');
  update.option('--no-require-https', 'let its tokens be used on plain HTTP');
  update.option('--no-reveal-secrets', 'show secrets at creation and rotation alone');
  addSettings(update).action(async (slug: string, flags: TenantFlags, command: Command) => {
    const { json: _, ...settings } = settingsOf(flags);
    const update = (operations: Operations) => operations.updateTenant(slug, settings);
    printTenant(context, await withOperations(command, context, update), flags);
  });

  const remove = tenant.command('delete <slug>').description('delete a tenant; its logs stay until their retention');
  remove.option('--force', 'delete its tokens too');
  addJsonOption(remove).action(async (slug: string, flags: JsonFlag & { force?: true }, command: Command) => {
    const force = flags.force === true;
    await withOperations(command, context, (operations) => operations.deleteTenant(slug, { force }));
    if (flags.json === true) printJson(context, { deleted: slug });
    else context.out(`Tenant ${slug} is deleted.`);
  });
};

function addSettings(command: Command): Command {
  command.option('--max-tokens <n>', 'places for tokens (25)', wholeNumber);
  command.option('--require-https', 'refuse its tokens on plain HTTP');
  command.option('--reveal-secrets', 'let HMAC secrets be shown again (token reveal)');
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
    'secrets shown again': view.revealSecrets ? 'yes' : 'no',
    limit: view.rateLimit && limitText(view.rateLimit),
    created: view.createdAt,
    version: view.version,
  });
}
