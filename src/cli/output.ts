/** How commands print: JSON for programs (`--json`), tables for people. Nothing printed can steer the terminal. */
import Table from 'cli-table3';
import { type Command, Option } from 'commander';
import type { CliContext } from './context.js';

/** What a table cell may hold; undefined and null print as `-`. */
export type Cell = string | number | boolean | null | undefined | readonly string[];

/** Adds `--json` to a command; read it with `options.json === true`. */
export function addJsonOption(command: Command): Command {
  return command.addOption(new Option('--json', 'print JSON, as the admin API answers it'));
}

/** Prints one JSON document over several lines. */
export function printJson(context: CliContext, value: unknown): void {
  context.out(JSON.stringify(value, null, 2));
}

/** Prints rows below their column names; without rows only `empty`. */
export function printTable(
  context: CliContext,
  columns: readonly string[],
  rows: readonly (readonly Cell[])[],
  empty = 'none',
): void {
  if (rows.length === 0) {
    context.out(empty);
    return;
  }
  const table = new Table({ ...plain, head: columns.map((column) => column.toUpperCase()) });
  table.push(...rows.map((row) => row.map(cellText)));
  printLines(context, table.toString());
}

/** Prints one thing, a line for each of its fields. */
export function printFields(context: CliContext, fields: Readonly<Record<string, Cell>>): void {
  const table = new Table(plain);
  table.push(...Object.entries(fields).map(([name, value]) => [name, cellText(value)]));
  printLines(context, table.toString());
}

/**
 * A text for the terminal: control characters (also those that reverse the direction of writing) are shown as `\u{…}`,
 * since names and user agents are written by others.
 */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu, (character) => {
    return `\\u{${(character.codePointAt(0) as number).toString(16)}}`;
  });
}

function cellText(value: Cell): string {
  if (value === undefined || value === null || value === '') return '-';
  if (Array.isArray(value)) return value.length === 0 ? '-' : value.map((item: string) => printable(item)).join(', ');
  return printable(String(value));
}

function printLines(context: CliContext, text: string): void {
  for (const line of text.split('\n')) context.out(line.trimEnd());
}

const borderless = { 'top-mid': '', 'top-left': '', 'top-right': '', 'bottom-mid': '', 'bottom-left': '' };
const plain = {
  chars: {
    ...borderless,
    top: '',
    bottom: '',
    'bottom-right': '',
    left: '',
    'left-mid': '',
    mid: '',
    'mid-mid': '',
    right: '',
    'right-mid': '',
    middle: '  ',
  },
  style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 },
};
