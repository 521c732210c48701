/** `tollkeeper user add|passwd|list|show|update|remove` and `user key create|list|revoke`: who may use the admin plane. */
import type { Command } from 'commander';
import type { AdminKeyView } from '../user/admin-key.js';
import type { UserView } from '../user/user.js';
import type { CliContext, RegisterCommand } from './context.js';
import { withOperations } from './operations.js';
import { addJsonOption, printFields, printJson, printTable } from './output.js';
import { addPageOptions, type PageFlags, pageOf } from './page-option.js';
import { askNewPassword } from './password.js';

interface JsonFlag {
  readonly json?: true;
}

interface UserFlags extends JsonFlag {
  readonly role?: string;
  readonly tenant?: string;
}

/** Registers the command and its subcommands. */
export const registerUser: RegisterCommand = (program, context) => {
  const user = program.command('user').description('users of the admin plane: operators, and owners of one tenant');

  const add = user
    .command('add <name>')
    .description('add a user; the password is asked for, or read from standard input');
  addJsonOption(addRoleOptions(add)).action(async (name: string, flags: UserFlags, command: Command) => {
    const { role = flags.tenant === undefined ? undefined : 'owner', tenant } = flags;
    // What is wrong with the rest is told before a password is asked for.
    const { parseUserDraft } = await import('../user/user.js');
    parseUserDraft({ name, role, tenant, password: 'x'.repeat(12) });
    const password = await askNewPassword(context, `Password of ${name}`);
    const input = { name, role, ...(tenant === undefined ? {} : { tenant }), password };
    printUser(context, await withOperations(command, context, (operations) => operations.createUser(input)), flags);
  });

  const passwd = user.command('passwd <name>').description('set the password of a user and end their sessions');
  addJsonOption(passwd).action(async (name: string, flags: JsonFlag, command: Command) => {
    const password = await askNewPassword(context, `New password of ${name}`);
    const update = withOperations(command, context, (operations) => operations.updateUser(name, { password }));
    printUser(context, await update, flags);
  });

  const list = user.command('list').description('list the users');
  addJsonOption(addPageOptions(list)).action(async (flags: PageFlags & JsonFlag, command: Command) => {
    const page = pageOf(flags);
    const found = await withOperations(command, context, (operations) => operations.listUsers(page));
    if (flags.json === true) return printJson(context, found);
    const rows = found.data.map((view) => [view.name, view.role, view.tenant, view.createdAt, view.passwordChangedAt]);
    printTable(context, ['name', 'role', 'tenant', 'created', 'password of'], rows, 'no users');
  });

  const show = user.command('show <name>').description('show a user');
  addJsonOption(show).action(async (name: string, flags: JsonFlag, command: Command) => {
    printUser(context, await withOperations(command, context, (operations) => operations.showUser(name)), flags);
  });

  const update = user
    .command('update <name>')
    .description('change the role or tenant of a user and end their sessions');
  addJsonOption(addRoleOptions(update)).action(async (name: string, flags: UserFlags, command: Command) => {
    const { role, tenant } = flags;
    const input = {
      ...(role === undefined ? {} : { role }),
      ...(tenant === undefined ? {} : { tenant }),
      // An operator has all tenants, and so none of its own.
      ...(role === 'operator' && tenant === undefined ? { tenant: null } : {}),
    };
    const changed = withOperations(command, context, (operations) => operations.updateUser(name, input));
    printUser(context, await changed, flags);
  });

  const remove = user.command('remove <name>').description('remove a user; their sessions and keys end at once');
  addJsonOption(remove).action(async (name: string, flags: JsonFlag, command: Command) => {
    await withOperations(command, context, (operations) => operations.removeUser(name));
    if (flags.json === true) printJson(context, { removed: name });
    else context.out(`User ${name} is removed.`);
  });

  registerKeys(user, context);
};

function registerKeys(user: Command, context: CliContext): void {
  const key = user.command('key').description('personal admin keys: what programs of a user show to the admin API');

  const create = key.command('create <user>').description('make a key; it is shown once');
  create
    .requiredOption('--name <name>', 'what it is for')
    .option('--expires-at <time>', 'RFC 3339 time, or a time from now, at most 366d (90d)');
  addJsonOption(create).action(
    async (name: string, flags: JsonFlag & { name: string; expiresAt?: string }, command: Command) => {
      const input = { name: flags.name, ...(flags.expiresAt === undefined ? {} : { expiresAt: flags.expiresAt }) };
      const issued = await withOperations(command, context, (operations) => operations.createAdminKey(name, input));
      if (flags.json === true) return printJson(context, issued);
      printKey(context, issued.key);
      context.out('');
      context.out(issued.secret);
      context.err('This is the key. It is shown this once: keep it now.');
    },
  );

  const list = key.command('list <user>').description('list the keys of a user');
  addJsonOption(addPageOptions(list)).action(async (name: string, flags: PageFlags & JsonFlag, command: Command) => {
    const page = pageOf(flags);
    const found = await withOperations(command, context, (operations) => operations.listAdminKeys(name, page));
    if (flags.json === true) return printJson(context, found);
    const rows = found.data.map((view) => [view.id, view.name, view.createdAt, view.expiresAt]);
    printTable(context, ['id', 'name', 'created', 'expires'], rows, 'no keys');
  });

  const revoke = key.command('revoke <user> <id>').description('end a key at once');
  addJsonOption(revoke).action(async (name: string, id: string, flags: JsonFlag, command: Command) => {
    await withOperations(command, context, (operations) => operations.deleteAdminKey(name, id));
    if (flags.json === true) printJson(context, { revoked: id });
    else context.out(`Key ${id} of user ${name} is ended.`);
  });
}

function addRoleOptions(command: Command): Command {
  return command
    .option('--role <role>', 'operator (everything) or owner (one tenant)')
    .option('--tenant <slug>', "an owner's tenant");
}

function printUser(context: CliContext, view: UserView, flags: JsonFlag): void {
  if (flags.json === true) return printJson(context, view);
  printFields(context, {
    name: view.name,
    role: view.role,
    tenant: view.tenant,
    created: view.createdAt,
    'password of': view.passwordChangedAt,
    version: view.version,
  });
}

function printKey(context: CliContext, view: AdminKeyView): void {
  printFields(context, {
    id: view.id,
    user: view.user,
    name: view.name,
    created: view.createdAt,
    expires: view.expiresAt,
  });
}
