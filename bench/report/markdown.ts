/** Puts a run into a Markdown file, between two markers; the prose around them is written by hand. */
import { readFileSync, writeFileSync } from 'node:fs';

const begin = '<!-- bench:begin -->';
const end = '<!-- bench:end -->';

/** What stands between the markers. */
export interface MarkdownReport {
  readonly table: string;
  readonly ratios: readonly string[];
  readonly bodies: readonly string[];
  readonly conditions: readonly string[];
  readonly failures: readonly string[];
}

/** Replaces the marked part of a file. @throws Error when the file or its markers are missing. */
export function writeMarkdown(path: string, report: MarkdownReport): void {
  const text = readFileSync(path, 'utf8');
  const [from, to] = [text.indexOf(begin), text.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`${path} lacks the markers ${begin} and ${end}.`);
  const parts = [report.table, report.ratios, report.bodies, report.failures, report.conditions];
  const body = parts.map((part) => (typeof part === 'string' ? part : listed(part))).filter((part) => part !== '');
  writeFileSync(path, `${text.slice(0, from + begin.length)}\n${body.join('\n\n')}\n${text.slice(to)}`);
}

function listed(lines: readonly string[]): string {
  return lines.map((line) => `- ${line}`).join('\n');
}
