/** `tollkeeper logs verify`: proves that the access log is complete. */
import type { Command } from 'commander';
import { dayOf } from '../accesslog/entry.js';
import { type DayVerification, verifyDay } from '../accesslog/verify.js';
import { logRedisSettings, redisSettings } from '../config/require.js';
import type { Config } from '../config/schema.js';
import { OperatorError } from '../core/failure.js';
import { connectOrFail } from '../redis/connect.js';
import { keys } from '../redis/keys.js';
import { configOf } from './config-option.js';
import type { CliContext } from './context.js';
import { addJsonOption, printJson, printTable } from './output.js';
import { pastTime } from './past-time.js';
import { refuseServer } from './server-option.js';

interface VerifyFlags {
  readonly tenant?: string;
  readonly since: string;
  readonly json?: true;
}

export function registerLogsVerify(logs: Command, context: CliContext): void {
  const verify = logs
    .command('verify')
    .description('check that no entry is missing from the access log; 1 if one is')
    .option('--tenant <slug>', 'only this tenant; _ for requests of no known tenant')
    .option('--since <time>', 'days from this time on: 10m, 2h, 7d or an RFC 3339 time', '1d');
  addJsonOption(verify).action(async (_flags: VerifyFlags, command: Command) => {
    refuseServer(command);
    // The command above has options of the same names.
    const flags = command.optsWithGlobals<VerifyFlags>();
    const found = await verifyAll(configOf(command, context), flags);
    const present = found.filter(({ entries, complete }) => entries > 0 || !complete);
    if (flags.json === true) printJson(context, { complete: found.every(({ complete }) => complete), days: present });
    else printFound(present, context);
    if (found.some(({ complete }) => !complete)) {
      throw new OperatorError('The access log is not complete: see what is said of its days.');
    }
  });
}

async function verifyAll(config: Config, { tenant, since }: VerifyFlags): Promise<DayVerification[]> {
  const nowMs = Date.now();
  const oldestMs = nowMs - (config.logRetentionDays + 1) * 86_400_000;
  const firstDay = dayOf(Math.max(pastTime('--since', since, nowMs), oldestMs));
  const log = await connectOrFail(logRedisSettings(config));
  const store = config.logRedisUrl === undefined ? log : await connectOrFail(redisSettings(config));
  try {
    const tenants =
      tenant === undefined ? ['', ...(await store.zrange(keys.tenants(), 0, '-1'))] : [tenant === '_' ? '' : tenant];
    const found: DayVerification[] = [];
    for (let day = firstDay; day <= dayOf(nowMs); day += 1) {
      for (const each of tenants) found.push(await verifyDay(log, each, day, config.logStreamMaxEntries));
    }
    return found;
  } finally {
    log.disconnect();
    store.disconnect();
  }
}

function printFound(found: readonly DayVerification[], context: CliContext): void {
  const columns = [
    'date',
    'tenant',
    'entries',
    'batches',
    'writers',
    'dropped',
    'missing',
    'trimmed',
    'stray',
    'complete',
  ];
  const rows = found.map((day) => [
    day.date,
    day.tenant === '' ? '_' : day.tenant,
    day.entries,
    day.batches,
    day.writers,
    day.dropped,
    day.missingCount,
    day.trimmedCount,
    day.strayCount + day.unnumberedCount,
    day.complete ? 'yes' : 'no',
  ]);
  printTable(context, columns, rows, 'no log in these days');
  for (const { date, tenant, missing } of found) {
    for (const { writer, first, last, count, after } of missing) {
      const where = after === null ? 'before its first one' : `after ${after}`;
      context.out(
        `${date} ${tenant}: ${count} of the records ${first} to ${last} of writer ${writer} are missing, ${where}`,
      );
    }
  }
}
