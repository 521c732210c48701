/** `/v1/tenants/{tenant}/logs` and what is below: pages, live tail (server-sent events), export. */
import { z } from 'zod';
import type { LogFilter } from '../accesslog/logged-entry.js';
import { entryView } from '../accesslog/logged-entry.js';
import { InvalidCursorError, type PageQuery, readPage } from '../accesslog/page.js';
import { parsePosition } from '../accesslog/live-tail.js';
import { mayAccessTenant } from '../management/principal.js';
import { DraftError } from '../tenant/refusal.js';
import type { Authenticator } from './authenticate.js';
import { filterOf, filterQuery, logEntrySchema, logPageSchema, rangeOf, rangeQuery } from './log-query.js';
import { sendEvents, sendExport } from './log-streams.js';
import { type Records, requireTenant, requireTokenOfNow } from './records.js';
import { type AnyRoute, route } from './route.js';
import { Slots } from './slots.js';

const tag = 'Logs';
const ofTenant = z.strictObject({ tenant: z.string() });
const ofToken = z.strictObject({ tenant: z.string(), id: z.string() });
const { token: _token, ...tokenFilters } = filterQuery;

const paging = {
  cursor: z.string().max(256).optional().describe('`next_cursor` of the page before, with the same filters'),
  limit: z
    .string()
    .regex(/^[1-9]\d{0,3}$/, 'must be a whole number from 1 to 1000')
    .transform(Number)
    .pipe(z.int().min(1).max(1000))
    .default(100),
};

/** Each may hold a thousand entries. */
const liveReaders = { each: 20, total: 100 };
const exportsAtATime = { each: 4, total: 20 };
const heartbeatMs = 15_000;

/** `authenticator` says who a live reader is by now. */
export function logRoutes(records: Records, authenticator: Authenticator): readonly AnyRoute[] {
  const [readers, exports] = [new Slots(liveReaders), new Slots(exportsAtATime)];
  const page = async (query: PageQuery): Promise<z.output<typeof logPageSchema>> => {
    try {
      const read = () => readPage(records.redis, query, Date.now(), records.retentionDays);
      const { entries, nextCursor, complete } = await records.store.ask(read);
      const data = entries.map(entryView) as z.output<typeof logPageSchema>['data'];
      return { data, meta: { next_cursor: nextCursor, complete } };
    } catch (error) {
      if (error instanceof InvalidCursorError) throw fieldFault('cursor', error.message.replace(/\.$/, ''));
      throw error;
    }
  };
  const description =
    'Newest first. A page ends incomplete after 10,000 entries that were looked at: go on with the cursor.';
  return [
    route({
      method: 'GET',
      path: '/tenants/{tenant}/logs',
      id: 'listLogs',
      tag,
      summary: 'The access log of a tenant, page by page',
      description,
      params: ofTenant,
      query: z.strictObject({ ...rangeQuery, ...filterQuery, ...paging }),
      answer: { status: 200, schema: logPageSchema, description: 'One page' },
      handle: async ({ operations, params: { tenant }, query }) => {
        await requireTenant(operations, tenant);
        const { cursor, limit } = query;
        return page({ tenant, ...rangeOf(query), filter: filterOf(query), cursor, limit });
      },
    }),
    route({
      method: 'GET',
      path: '/tenants/{tenant}/tokens/{id}/logs',
      id: 'listTokenLogs',
      tag,
      summary: 'The requests with one token, page by page',
      description,
      params: ofToken,
      query: z.strictObject({ ...rangeQuery, ...tokenFilters, ...paging }),
      answer: { status: 200, schema: logPageSchema, description: 'One page' },
      handle: async ({ operations, params: { tenant, id }, query }) => {
        await requireTokenOfNow(records, operations, { tenant, id });
        const { cursor, limit } = query;
        return page({ tenant, ...rangeOf(query), filter: filterOf(query, id), cursor, limit });
      },
    }),
    route({
      method: 'GET',
      path: '/tenants/{tenant}/logs/stream',
      id: 'streamLogs',
      tag,
      summary: 'The access log as it is written, as server-sent events',
      description: [
        'Events `log` (an entry) and `skipped` (`{"skipped": n}`: this client was too slow for n entries; null: it was',
        'away too long). A comment every 15 s keeps the connection open, which is closed when the credential has ended. With `Last-Event-ID` it goes on behind that event.',
      ].join(' '),
      params: ofTenant,
      query: z.strictObject(filterQuery),
      answer: {
        status: 200,
        schema: logEntrySchema,
        description: 'Until the client closes',
        contentType: 'text/event-stream',
      },
      handle: async ({ principal, operations, params: { tenant }, query, request, reply }) => {
        const lastEventId = request.headers['last-event-id'];
        const after = typeof lastEventId === 'string' ? parsePosition(lastEventId) : undefined;
        if (lastEventId !== undefined && after === undefined) {
          throw fieldFault('Last-Event-ID', 'is not the id of an event of this stream: leave it out to begin now');
        }
        await requireTenant(operations, tenant);
        const source = {
          open: (signal: AbortSignal) => records.tail.read({ tenant, filter: filterOf(query), after, signal }),
          heartbeatMs: records.heartbeatMs ?? heartbeatMs,
          mayGoOn: async () => {
            const current = await authenticator.current(request);
            return current !== undefined && mayAccessTenant(current, tenant);
          },
        };
        await readers.run(principal, () => sendEvents(reply, source));
      },
    }),
    route({
      method: 'GET',
      path: '/tenants/{tenant}/logs/export',
      id: 'exportLogs',
      tag,
      summary: 'The access log as a file, oldest first: NDJSON, or CSV with `format=csv`',
      description: 'A connection that ends without the last chunk says that the file is not whole.',
      params: ofTenant,
      query: z.strictObject({ ...rangeQuery, ...filterQuery, format: z.enum(['ndjson', 'csv']).optional() }),
      answer: {
        status: 200,
        schema: z.string(),
        description: 'NDJSON (`application/x-ndjson`), or CSV (`text/csv`)',
        contentType: 'application/x-ndjson',
      },
      handle: async ({ principal, operations, params: { tenant }, query, request, reply }) => {
        await requireTenant(operations, tenant);
        const format = query.format ?? (request.headers.accept?.includes('text/csv') === true ? 'csv' : 'ndjson');
        const filter: LogFilter = filterOf(query);
        await exports.run(principal, () => sendExport(reply, records, { tenant, format, ...rangeOf(query), filter }));
      },
    }),
  ];
}

function fieldFault(field: string, message: string): DraftError {
  return new DraftError([{ field, message }]);
}
