/**
 * A CSV file (RFC 4180, UTF-8) of tokens to import, a row each. The first line names the columns; an empty cell is as if
 * it were not there. A row that cannot be used is told by its line and column.
 */
import { createReadStream } from 'node:fs';
import { CsvError, parse } from 'csv-parse';
import { OperatorError } from '../core/failure.js';
import { DraftError } from '../tenant/refusal.js';
import { type ImportDraft, parseImportDraft } from '../token/draft.js';
import { limitFlag, quotaFlag } from './limit-flags.js';

/** Columns and what stands in them, for the help and docs/cli.md. */
export const csvColumns: Readonly<Record<string, string>> = {
  sha256: 'SHA-256 of the whole token in hex; the only column that must be there',
  name: 'name for people',
  description: 'description for people',
  scopes: 'scopes, separated by spaces',
  limit: 'calls allowed in a window',
  window: 'length of the window in seconds',
  algorithm: 'sliding-window, fixed-window or token-bucket',
  burst: 'calls that may come at once (token-bucket)',
  limits: 'further limits such as 10/1s, separated by spaces',
  quota: 'calls in a calendar day or month, such as 100000/month',
  expiresAt: 'RFC 3339 time, or a time from now such as 30d',
  subject: 'whose data the token may see',
  allowedIps: 'addresses and CIDRs, separated by spaces',
  lease: 'true to charge units in advance while the token is very hot',
  'metadata.KEY': 'a note of your own under KEY',
};

/** Rows of one file, at most: their hashes are held in memory to find those that are there twice. */
const csvRowsMax = 1_000_000;

/** A row that can be imported, or what is wrong with it. */
export type CsvRow =
  | { readonly line: number; readonly draft: ImportDraft; readonly fault?: undefined }
  | { readonly line: number; readonly draft?: undefined; readonly fault: string };

/** What the flags of the command say for every row that does not say it itself. */
export type RowDefaults = Readonly<Record<string, unknown>>;

/**
 * Reads the file row by row. `nowMs` is what times from now are counted from.
 * @throws OperatorError when the file cannot be read, is no CSV, has unknown columns or too many rows.
 */
export async function* readTokenCsv(path: string, defaults: RowDefaults, nowMs: number): AsyncGenerator<CsvRow> {
  const file = createReadStream(path);
  const parser = parse({ bom: true, info: true, relax_column_count: true, skip_empty_lines: true, trim: true });
  file.on('error', (error) => parser.destroy(error));
  let columns: readonly string[] | undefined;
  let rows = 0;
  const lineOfHash = new Map<string, number>();
  try {
    for await (const read of file.pipe(parser)) {
      const { info, record } = read as { info: { lines: number }; record: string[] };
      // `lines` counts those that were read before and with the record.
      const line = info.lines;
      if (columns === undefined) {
        columns = knownColumns(record, line);
        continue;
      }
      rows += 1;
      if (rows > csvRowsMax) throw new OperatorError(`${path} has more than ${csvRowsMax} rows: split it.`);
      yield once(rowOf(record, line, columns, defaults, nowMs), lineOfHash);
    }
  } catch (error) {
    throw readable(path, error);
  }
  if (columns === undefined) throw new OperatorError(`${path} is empty: its first line must name the columns.`);
}

function readable(path: string, error: unknown): unknown {
  if (error instanceof CsvError) {
    // The parser's own words quote the cell.
    const line = typeof error.lines === 'number' ? ` at line ${error.lines}` : '';
    return new OperatorError(`${path} is no sound CSV${line} (${error.code}): mend its quotes and separators.`);
  }
  const { code, syscall } = error as NodeJS.ErrnoException;
  return syscall === undefined ? error : new OperatorError(`Cannot read ${path} (${code ?? 'unknown reason'}).`);
}

function knownColumns(names: readonly string[], line: number): readonly string[] {
  const known = Object.keys(csvColumns).filter((name) => name !== 'metadata.KEY');
  for (const [index, name] of names.entries()) {
    if (!known.includes(name) && !/^metadata\..+/.test(name)) {
      throw new OperatorError(
        `Line ${line} of the CSV file names a column ${index + 1} that is not known: columns are ${known.join(', ')} and metadata.KEY.`,
      );
    }
    if (names.indexOf(name) !== index) throw new OperatorError(`The CSV file names the column ${name} twice.`);
  }
  if (!names.includes('sha256'))
    throw new OperatorError('The CSV file has no column sha256: name the columns in its first line.');
  return names;
}

function rowOf(
  cells: readonly string[],
  line: number,
  columns: readonly string[],
  defaults: RowDefaults,
  nowMs: number,
): CsvRow {
  if (cells.length !== columns.length) {
    return { line, fault: `line ${line}: has ${cells.length} cells and ${columns.length} columns` };
  }
  const given = new Map(columns.map((column, index) => [column, cells[index] as string]));
  for (const [column, cell] of given) if (cell === '') given.delete(column);
  try {
    return { line, draft: parseImportDraft({ ...defaults, ...inputOf(given) }, nowMs) };
  } catch (error) {
    if (error instanceof CellError) return { line, fault: `line ${line}, column ${error.column}: ${error.message}` };
    if (!(error instanceof DraftError)) throw error;
    const faults = error.faults.map(({ field, message }) => `column ${columnOf(field, columns)} ${message}`);
    return { line, fault: `line ${line}, ${faults.join('; ')}` };
  }
}

/** The same hash twice would be one token. */
function once(row: CsvRow, lineOfHash: Map<string, number>): CsvRow {
  if (row.draft === undefined) return row;
  const { line, draft } = row;
  const first = lineOfHash.get(draft.sha256);
  if (first !== undefined) return { line, fault: `line ${line}, column sha256 is the same as in line ${first}` };
  lineOfHash.set(draft.sha256, line);
  return row;
}

/** What parseImportDraft takes. */
function inputOf(given: ReadonlyMap<string, string>): Record<string, unknown> {
  const input: Record<string, unknown> = {};
  const rateLimit: Record<string, unknown> = {};
  const metadata: [string, string][] = [];
  for (const [column, cell] of given) {
    if (column === 'limit' || column === 'window' || column === 'burst') rateLimit[column] = wholeNumber(column, cell);
    else if (column === 'algorithm') rateLimit[column] = cell;
    else if (column === 'scopes' || column === 'allowedIps') input[column] = cell.split(/\s+/);
    else if (column === 'limits') input[column] = cell.split(/\s+/).map((one) => told(column, () => limitFlag(one)));
    else if (column === 'quota') input[column] = told(column, () => quotaFlag(cell));
    else if (column === 'lease') input[column] = flag(column, cell);
    else if (column.startsWith('metadata.')) metadata.push([column.slice('metadata.'.length), cell]);
    else input[column] = cell;
  }
  if (Object.keys(rateLimit).length > 0) input.rateLimit = rateLimit;
  if (metadata.length > 0) input.metadata = Object.fromEntries(metadata);
  return input;
}

/** A cell that is not even of the right form. */
class CellError extends Error {
  readonly column: string;

  constructor(column: string, message: string) {
    super(message);
    this.column = column;
  }
}

function wholeNumber(column: string, cell: string): number {
  if (/^\d{1,15}$/.test(cell)) return Number(cell);
  throw new CellError(column, 'must be a whole number');
}

function flag(column: string, cell: string): boolean {
  if (cell === 'true' || cell === 'false') return cell === 'true';
  throw new CellError(column, 'must be true or false');
}

/** The refusals of the flags, without "It" at their beginning. */
function told<T>(column: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    const text = error instanceof Error ? error.message : '';
    throw new CellError(column, text.replace(/^It /, '').replace(/\.$/, ''));
  }
}

/** The column that a field of the draft came from. */
function columnOf(field: string, columns: readonly string[]): string {
  if (columns.includes(field)) return field;
  const [first = '', second = ''] = field.split('.');
  return first === 'rateLimit' && second !== '' ? second : first;
}
