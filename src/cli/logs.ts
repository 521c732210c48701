/** `tollkeeper logs`: the access log of one or all tenants, past or as it is written. */
import { type Command, Option } from 'commander';
import { type ExportFormat, exportText } from '../accesslog/export.js';
import { follow } from '../accesslog/follow.js';
import { entryView, type LogEntryView, type LogFilter, type LoggedEntry } from '../accesslog/logged-entry.js';
import { type LogRange, readBackward, readForward } from '../accesslog/reader.js';
import type { Config } from '../config/schema.js';
import { logRedisSettings, redisSettings } from '../config/require.js';
import { OperatorError } from '../core/failure.js';
import { connectOrFail } from '../redis/connect.js';
import { keys } from '../redis/keys.js';
import type { RedisConnection } from '../redis/target.js';
import { configOf } from './config-option.js';
import type { CliContext } from './context.js';
import { registerLogsVerify } from './logs-verify.js';
import { printable } from './output.js';
import { pastTime } from './past-time.js';
import { serverOf } from './server-option.js';

interface LogsOptions {
  readonly tenant?: string;
  readonly follow?: boolean;
  readonly since?: string;
  readonly token?: string;
  readonly status?: string;
  readonly path?: string;
  readonly method?: string;
  readonly ip?: string;
  readonly until?: string;
  readonly export?: string;
  readonly limit?: string;
  readonly json?: boolean;
}

/** Entries printed when neither `--limit` nor `--since` says how many. */
const limitDefault = 100;
const dayMs = 86_400_000;

export function registerLogs(program: Command, context: CliContext): void {
  const command = program
    .command('logs')
    .description(`print the access log, oldest first (default: the last ${limitDefault} entries of all tenants)`)
    .option('--tenant <slug>', 'only this tenant; _ for requests of no known tenant')
    .option('--follow', 'go on with new entries until interrupted; earlier ones only with --since or --limit')
    .option('--since <time>', 'from this time on: 10m, 2h, 7d or an RFC 3339 time')
    .option('--token <id>', 'only requests with this token')
    .option('--status <status>', 'only this status (404) or class (4xx)')
    .option('--path <prefix>', 'only paths that begin with this')
    .option('--method <method>', 'only this method')
    .option('--ip <address>', 'only from this address, as it is logged')
    .option('--until <time>', 'until this time')
    .option('--export <format>', 'print a file of all entries instead: ndjson or csv')
    .option('--limit <n>', 'only the newest N entries')
    .addOption(new Option('--json', 'print JSON, one object a line'))
    .action((options: LogsOptions) => printLogs(command, options, context));
  registerLogsVerify(command, context);
}

async function printLogs(command: Command, options: LogsOptions, context: CliContext): Promise<void> {
  const filter: LogFilter = {
    tokenId: options.token,
    status: statusRange(options.status),
    pathPrefix: options.path,
    method: options.method?.toUpperCase(),
    ip: options.ip,
  };
  const format = exportFormat(options);
  const limit = options.limit === undefined ? undefined : wholeNumber(options.limit);
  const sinceMs = options.since === undefined ? undefined : pastTime('--since', options.since, Date.now());
  const untilMs = options.until === undefined ? undefined : pastTime('--until', options.until, Date.now());
  const print = (entry: LogEntryView): void =>
    context.out(options.json === true ? JSON.stringify(entry) : textLine(entry));
  const server = serverOf(command, context);
  if (server !== undefined) {
    const { printServedLogs } = await import('./logs-server.js');
    const { token, status, path } = options;
    return printServedLogs(
      server,
      {
        tenant: options.tenant,
        filters: { token, status, path, method: filter.method, ip: filter.ip },
        fromMs: sinceMs,
        toMs: untilMs,
        limit: limit ?? (isUnbounded(options) ? undefined : limitDefault),
        format,
        follow: options.follow === true,
      },
      print,
      context,
    );
  }
  const config = configOf(command, context);
  const toMs = untilMs ?? Date.now() + dayMs;
  const log = await connectOrFail(logRedisSettings(config));
  const store = config.logRedisUrl === undefined ? log : await connectOrFail(redisSettings(config));
  const tenants = (): Promise<string[]> => tenantsOf(store, options.tenant);
  const printRead = (entry: LoggedEntry): void => print(entryView(entry));
  try {
    const writtenBeforeMs = options.follow === true ? await redisTimeMs(log) : undefined;
    if (options.follow !== true || sinceMs !== undefined || limit !== undefined) {
      const fromMs = sinceMs ?? Date.now() - (config.logRetentionDays + 1) * dayMs;
      const range = { tenants: await tenants(), fromMs, toMs, writtenBeforeMs, filter };
      if (format !== undefined) return await printFile(log, range, format, context);
      await printPast(log, range, limit ?? (isUnbounded(options) ? undefined : limitDefault), printRead);
    }
    if (writtenBeforeMs !== undefined) await printLive(config, tenants, filter, writtenBeforeMs, printRead);
    return undefined;
  } finally {
    log.disconnect();
    store.disconnect();
  }
}

/** Whether all entries are asked for, or of a live log none before it. */
function isUnbounded({ since, export: format, follow }: LogsOptions): boolean {
  return since !== undefined || format !== undefined || follow === true;
}

/** @throws OperatorError (exit code 2) for a format that is none, or what does not go with a file. */
function exportFormat({ export: format, follow, limit }: LogsOptions): ExportFormat | undefined {
  if (format === undefined) return undefined;
  if (format !== 'ndjson' && format !== 'csv') throw new OperatorError('--export must be ndjson or csv.', 2);
  if (follow === true || limit !== undefined) {
    throw new OperatorError('--export prints all entries that are asked for: leave out --follow and --limit.', 2);
  }
  return format;
}

async function printFile(
  redis: RedisConnection,
  range: LogRange,
  format: ExportFormat,
  context: CliContext,
): Promise<void> {
  for await (const text of exportText(readForward(redis, range), format)) context.out(text.replace(/\n$/, ''));
}

async function printPast(
  redis: RedisConnection,
  range: LogRange,
  limit: number | undefined,
  print: (entry: LoggedEntry) => void,
): Promise<void> {
  if (limit === undefined) {
    for await (const entry of readForward(redis, range)) print(entry);
    return;
  }
  const newest: LoggedEntry[] = [];
  if (limit > 0) {
    for await (const entry of readBackward(redis, range)) {
      if (newest.push(entry) === limit) break;
    }
  }
  for (const entry of newest.toReversed()) print(entry);
}

/** Until SIGINT or SIGTERM, which end it as done. */
async function printLive(
  config: Config,
  tenants: () => Promise<string[]>,
  filter: LogFilter,
  fromMs: number,
  print: (entry: LoggedEntry) => void,
): Promise<void> {
  const interrupted = new AbortController();
  const redis = await connectOrFail(logRedisSettings(config));
  const stop = (): void => {
    interrupted.abort();
    redis.disconnect();
  };
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
  try {
    for await (const entry of follow(redis, { tenants, filter, signal: interrupted.signal, fromMs })) print(entry);
  } finally {
    process.off('SIGINT', stop);
    process.off('SIGTERM', stop);
    redis.disconnect();
  }
}

/** The tenant asked for, else all and '' (no tenant). */
async function tenantsOf(store: RedisConnection, tenant: string | undefined): Promise<string[]> {
  if (tenant !== undefined) return [tenant === '_' ? '' : tenant];
  return ['', ...(await store.zrange(keys.tenants(), 0, '-1'))];
}

async function redisTimeMs(redis: RedisConnection): Promise<number> {
  const [seconds, microseconds] = await redis.time();
  return Number(seconds) * 1000 + Math.floor(Number(microseconds) / 1000);
}

function textLine(entry: LogEntryView): string {
  const tenant = entry.tenant === '' ? '-' : entry.tenant;
  if ('dropped' in entry) {
    return printable(`${entry.time} ${tenant} ${entry.dropped} entries are missing here: they had to be dropped`);
  }
  const status = String(entry.status).padStart(3);
  const caller = `${tenant}/${entry.tokenId === '' ? '-' : entry.tokenId} ${entry.ip}`;
  const request = `${entry.method.padEnd(6)} ${entry.path}`;
  return printable(`${entry.time} ${status} ${entry.outcome} ${request} ${entry.durationMs} ms ${caller}`);
}

function statusRange(text: string | undefined): { from: number; to: number } | undefined {
  if (text === undefined) return undefined;
  if (/^[1-5]xx$/i.test(text)) {
    const from = Number(text[0]) * 100;
    return { from, to: from + 99 };
  }
  if (/^[1-5]\d\d$/.test(text)) return { from: Number(text), to: Number(text) };
  throw new OperatorError(`--status must be a status such as 404 or a class such as 4xx, found ${text}.`, 2);
}

function wholeNumber(text: string): number {
  if (/^\d{1,7}$/.test(text)) return Number(text);
  throw new OperatorError(`--limit must be a whole number up to 9999999, found ${text}.`, 2);
}
