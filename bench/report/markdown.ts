/** Puts a run into a Markdown file, between two markers; the prose around them is written by hand. */
import { readFileSync, writeFileSync } from 'node:fs';

const begin = '<!-- bench:begin -->';
const end = '<!-- bench:end -->';

/** Replaces the marked part of a file by these blocks. @throws Error when the file or its markers are missing. */
export function writeMarkdown(path: string, blocks: readonly string[]): void {
  const text = readFileSync(path, 'utf8');
  const [from, to] = [text.indexOf(begin), text.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`${path} lacks the markers ${begin} and ${end}.`);
  const body = blocks.filter((block) => block !== '').join('\n\n');
  writeFileSync(path, `${text.slice(0, from + begin.length)}\n${body}\n${text.slice(to)}`);
}

/** Lines as a list; '' when there are none. */
export function listed(lines: readonly string[]): string {
  return lines.map((line) => `- ${line}`).join('\n');
}
