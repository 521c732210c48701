/** The access log as a file: one JSON object a line (NDJSON), or CSV (RFC 4180) that a spreadsheet does not execute. */
import { stringify } from 'csv-stringify/sync';
import type { LoggedEntry } from './logged-entry.js';
import { entryView } from './logged-entry.js';

export type ExportFormat = 'ndjson' | 'csv';

const csvColumns = [
  'id',
  'time',
  'requestId',
  'tenant',
  'tokenId',
  'method',
  'path',
  'route',
  'status',
  'outcome',
  'durationMs',
  'upstreamMs',
  'bytesIn',
  'bytesOut',
  'ip',
  'userAgent',
  'dropped',
] as const satisfies readonly (keyof LoggedEntry)[];

/** Entries that are turned into text together. */
const chunkEntries = 200;

/** The text of the entries in parts, never more than {@link chunkEntries} of them at once. */
export async function* exportText(entries: AsyncIterable<LoggedEntry>, format: ExportFormat): AsyncGenerator<string> {
  const render = format === 'csv' ? csvLines : jsonLines;
  if (format === 'csv') yield `${csvColumns.join(',')}\r\n`;
  let chunk: LoggedEntry[] = [];
  for await (const entry of entries) {
    if (chunk.push(entry) < chunkEntries) continue;
    yield render(chunk);
    chunk = [];
  }
  if (chunk.length > 0) yield render(chunk);
}

function jsonLines(entries: readonly LoggedEntry[]): string {
  return entries.map((entry) => `${JSON.stringify(entryView(entry))}\n`).join('');
}

/** A value that begins like a formula (= + - @ tab, also in full width) gets an apostrophe before it. */
function csvLines(entries: readonly LoggedEntry[]): string {
  return stringify(entries as LoggedEntry[], {
    columns: [...csvColumns],
    escape_formulas: true,
    record_delimiter: 'windows',
  });
}
