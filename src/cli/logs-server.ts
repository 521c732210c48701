/** `tollkeeper logs` over the admin API: the access log of one tenant. */
import type { ExportFormat } from '../accesslog/export.js';
import type { LogEntryView } from '../accesslog/logged-entry.js';
import { OperatorError } from '../core/failure.js';
import { AdminClient } from './admin-client.js';
import type { CliContext } from './context.js';
import type { AdminServer } from './server-option.js';

export interface ServedQuestion {
  readonly tenant: string | undefined;
  /** As the API names and spells them. */
  readonly filters: Readonly<Record<'method' | 'path' | 'status' | 'token' | 'ip', string | undefined>>;
  /** Unix ms; undefined: as far back as there is something. */
  readonly fromMs: number | undefined;
  /** Unix ms; undefined: to now. */
  readonly toMs: number | undefined;
  /** The newest so many; undefined: all. */
  readonly limit: number | undefined;
  readonly format: ExportFormat | undefined;
  readonly follow: boolean;
}

interface ServedPage {
  readonly data: readonly LogEntryView[];
  readonly meta: { readonly next_cursor: string | null };
}

const pageMax = 1000;

/**
 * Prints what is asked for, oldest first.
 * @throws OperatorError for what the API has no answer to (exit code 2), and as AdminClient does.
 */
export async function printServedLogs(
  server: AdminServer,
  question: ServedQuestion,
  print: (entry: LogEntryView) => void,
  context: CliContext,
): Promise<void> {
  const { tenant, filters, fromMs, toMs, limit, format } = question;
  if (tenant === undefined || tenant === '_') {
    throw new OperatorError('Over the admin API say whose log: --tenant SLUG.', 2);
  }
  const client = new AdminClient(server, context);
  const path = ['tenants', tenant, 'logs'];
  if (question.follow) {
    if (fromMs !== undefined || toMs !== undefined || limit !== undefined) {
      throw new OperatorError('Over the admin API --follow begins now: leave out --since, --until and --limit.', 2);
    }
    return printServedLive(client, path, filters, print, context);
  }
  const query = { ...filters, from: timeText(fromMs), to: timeText(toMs) };
  if (limit !== undefined) {
    for (const entry of (await newestOf(client, path, query, limit)).toReversed()) print(entry);
    return undefined;
  }
  const file = { method: 'GET', path: [...path, 'export'], query: { ...query, format: format ?? 'ndjson' } } as const;
  for await (const line of client.lines(file)) {
    if (format === undefined) print(JSON.parse(line) as LogEntryView);
    else context.out(line);
  }
  return undefined;
}

async function newestOf(
  client: AdminClient,
  path: readonly string[],
  query: Readonly<Record<string, string | undefined>>,
  limit: number,
): Promise<LogEntryView[]> {
  const newest: LogEntryView[] = [];
  let cursor: string | undefined;
  while (newest.length < limit) {
    const page = { ...query, limit: Math.min(limit - newest.length, pageMax), cursor };
    const { data, meta } = (await client.send({ method: 'GET', path, query: page })) as ServedPage;
    newest.push(...data);
    if (meta.next_cursor === null) break;
    cursor = meta.next_cursor;
  }
  return newest;
}

/** Until SIGINT or SIGTERM, which end it as done. */
async function printServedLive(
  client: AdminClient,
  path: readonly string[],
  query: Readonly<Record<string, string | undefined>>,
  print: (entry: LogEntryView) => void,
  context: CliContext,
): Promise<void> {
  const interrupted = new AbortController();
  const stop = (): void => interrupted.abort();
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
  try {
    for await (const line of client.lines({ method: 'GET', path: [...path, 'stream'], query }, interrupted.signal)) {
      // Server-sent events, each with its data in one line.
      if (!line.startsWith('data: ')) continue;
      const item = JSON.parse(line.slice('data: '.length)) as LogEntryView | { readonly skipped: number | null };
      if (!('skipped' in item)) print(item);
      else context.err(`tollkeeper: ${item.skipped ?? 'Some'} entries came too fast to be shown.`);
    }
    if (!interrupted.signal.aborted) {
      throw new OperatorError('The server has ended the live log: its credential may have ended, or it is restarting.');
    }
  } finally {
    process.off('SIGINT', stop);
    process.off('SIGTERM', stop);
  }
}

function timeText(timeMs: number | undefined): string | undefined {
  return timeMs === undefined ? undefined : new Date(timeMs).toISOString();
}
