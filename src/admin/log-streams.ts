/** Answers that last: server-sent events of the live tail, and exports. Each goes at the pace of its client. */
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { pipeline } from 'node:stream/promises';
import { Readable } from 'node:stream';
import type { FastifyReply } from 'fastify';
import { dayMs } from '../accesslog/entry.js';
import { type ExportFormat, exportText } from '../accesslog/export.js';
import { positionText, type TailItem } from '../accesslog/live-tail.js';
import { entryView, type LogFilter } from '../accesslog/logged-entry.js';
import { readForward } from '../accesslog/reader.js';
import type { Records } from './records.js';

export interface EventSource {
  readonly open: (signal: AbortSignal) => AsyncIterable<TailItem>;
  readonly heartbeatMs: number;
  /** Whether the client may go on reading; asked with every heartbeat. */
  readonly mayGoOn: () => Promise<boolean>;
}

/** Sends what `open` reads until the client leaves or may no longer read, or the reading ends. */
export async function sendEvents(reply: FastifyReply, { open, heartbeatMs, mayGoOn }: EventSource): Promise<void> {
  const raw = takeOver(reply, { 'content-type': 'text/event-stream', 'x-accel-buffering': 'no' });
  const left = new AbortController();
  raw.once('close', () => left.abort());
  const heartbeat = setInterval(() => {
    // A client that reads nothing gets no heartbeats either: they would wait in memory.
    if (!raw.writableNeedDrain && !left.signal.aborted) raw.write(': still here\n\n');
    // Redis away says nothing about the client: it is asked again.
    mayGoOn().then(
      (may) => may || left.abort(),
      () => {},
    );
  }, heartbeatMs);
  try {
    raw.write('retry: 2000\n\n');
    for await (const item of open(left.signal)) {
      if (raw.write(eventText(item))) continue;
      await once(raw, 'drain', { signal: left.signal });
    }
    raw.end();
  } catch (error) {
    // The answer has begun: all that can be said is that it ends here. The client comes back with Last-Event-ID.
    raw.destroy(left.signal.aborted ? undefined : (error as Error));
  } finally {
    clearInterval(heartbeat);
    left.abort();
  }
}

function eventText(item: TailItem): string {
  if ('skipped' in item) return `event: skipped\ndata: ${JSON.stringify(item)}\n\n`;
  const data = JSON.stringify(entryView(item.entry));
  return `event: log\nid: ${positionText(item.position)}\ndata: ${data}\n\n`;
}

export interface ExportQuery {
  readonly tenant: string;
  readonly format: ExportFormat;
  readonly fromMs: number | undefined;
  readonly toMs: number | undefined;
  readonly filter: LogFilter;
}

/** Sends a file; one that cannot be finished is cut off, so that it is not taken for whole. */
export async function sendExport(reply: FastifyReply, records: Records, query: ExportQuery): Promise<void> {
  const { tenant, format, filter } = query;
  const nowMs = Date.now();
  const range = {
    tenants: [tenant],
    fromMs: Math.max(query.fromMs ?? 0, nowMs - (records.retentionDays + 1) * dayMs),
    toMs: Math.min(query.toMs ?? nowMs, nowMs + dayMs),
    filter,
  };
  const text = exportText(readForward(records.redis, range), format);
  // What fails at once is still answered as a problem.
  const first = await records.store.ask(() => text.next());
  const raw = takeOver(reply, {
    'content-type': format === 'csv' ? 'text/csv; charset=utf-8; header=present' : 'application/x-ndjson',
    'content-disposition': `attachment; filename="${tenant}-logs.${format}"`,
  });
  const whole = async function* (): AsyncGenerator<string> {
    if (first.done !== true) yield first.value;
    yield* text;
  };
  try {
    await pipeline(Readable.from(whole()), raw);
  } catch {
    // The pipeline has cut the connection: by the client's leave, or since Redis could not be asked any more.
    raw.destroy();
  }
}

/** From here on the answer is ours alone. */
function takeOver(reply: FastifyReply, headers: Readonly<Record<string, string>>): ServerResponse {
  reply.hijack();
  const { raw } = reply;
  raw.writeHead(200, { ...(reply.getHeaders() as Record<string, string>), ...headers });
  return raw;
}
