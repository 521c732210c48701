/** The filters of the access log in a query, their checks, and the schemas of what is answered. */
import { z } from 'zod';
import type { LogFilter } from '../accesslog/logged-entry.js';
import { named } from './schemas.js';

const time = z.iso
  .datetime({ offset: true, error: 'must be an RFC 3339 time such as 2027-01-31T00:00:00Z' })
  .optional();

/** What entries must be like. */
export const filterQuery = {
  method: z
    .string()
    .regex(/^[A-Z]{1,16}$/, 'must be a method such as GET')
    .optional(),
  path: z.string().max(1024).optional().describe('what the path begins with'),
  status: z
    .string()
    .regex(/^[0-5](xx|\d\d)$/i, 'must be a status such as 404 or a class such as 4xx')
    .optional(),
  token: z.string().max(128).optional().describe('id of a token'),
  ip: z.string().max(64).optional().describe('address of the client as it is logged'),
};

/** Times of the requests, inclusive. */
export const rangeQuery = { from: time, to: time };

type Filters = z.output<z.ZodObject<typeof filterQuery>>;

/** `tokenId` stands for the filter where the path names the token. */
export function filterOf({ method, path, status, token, ip }: Filters, tokenId = token): LogFilter {
  return { tokenId, method, pathPrefix: path, ip, status: statusRange(status) };
}

/** Unix ms. */
export function rangeOf({ from, to }: z.output<z.ZodObject<typeof rangeQuery>>) {
  return { fromMs: timeMs(from), toMs: timeMs(to) };
}

function timeMs(text: string | undefined): number | undefined {
  return text === undefined ? undefined : Date.parse(text);
}

function statusRange(text: string | undefined): LogFilter['status'] {
  if (text === undefined) return undefined;
  if (!/xx$/i.test(text)) return { from: Number(text), to: Number(text) };
  const from = Number(text[0]) * 100;
  return { from, to: from + 99 };
}

const entryTime = z.string().describe('RFC 3339, UTC: when the request arrived');

export const logEntrySchema = z.strictObject({
  id: z.string().describe('id in the stream of its day'),
  time: entryTime,
  requestId: z.string(),
  tenant: z.string(),
  tokenId: z.string().describe('empty without a token'),
  method: z.string(),
  path: z.string(),
  route: z.string().describe('pattern of the matched route, or empty'),
  status: z.int().describe('0: the client left before there was one'),
  outcome: z.string().describe('`ok` for what was forwarded, else the slug of the problem, or `client-closed`'),
  durationMs: z.number(),
  upstreamMs: z.number(),
  bytesIn: z.int(),
  bytesOut: z.int(),
  ip: z.string(),
  userAgent: z.string(),
});

const gapSchema = z
  .strictObject({
    id: z.string(),
    time: entryTime,
    tenant: z.string(),
    outcome: z.literal('log-gap'),
    dropped: z.int().describe('entries that are missing here'),
  })
  .describe('stands for entries that had to be dropped; passes every filter');

named.add(logEntrySchema, { id: 'LogEntry' });
named.add(gapSchema, { id: 'LogGap' });

export const logPageSchema = z.strictObject({
  data: z.array(z.union([logEntrySchema, gapSchema])),
  meta: z.strictObject({
    next_cursor: z.string().nullable().describe('of the page with what is older; null: there is nothing older'),
    complete: z.boolean().describe('false: the search ended before the page was full; go on with the cursor'),
  }),
});
