/** A YAML (or JSON) file that was written by hand, with the position of each value for the messages about it. */
import { readFileSync } from 'node:fs';
import { isAlias, isMap, isScalar, isSeq, LineCounter, type Node, type Pair, parseDocument } from 'yaml';
import { OperatorError } from '../core/failure.js';

/** Keys and indexes that lead from the top of a document to a value. */
export type ValuePath = readonly (string | number)[];

export interface YamlFile {
  readonly path: string;
  readonly value: unknown;
  /** `file:line:column` of a value; of its nearest parent when it is absent. */
  readonly at: (path: ValuePath) => string;
}

/**
 * Reads and parses a file. An OperatorError says, each on a line of its own, why it cannot be read or where it is not
 * YAML.
 */
export function readYamlFile(path: string): YamlFile {
  return parseYaml(path, readText(path));
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    const reason = code === 'ENOENT' ? 'there is no such file' : `it cannot be read (${code})`;
    throw new OperatorError(`${path}: ${reason}; check the path`, 1, { cause: error });
  }
}

function parseYaml(path: string, text: string): YamlFile {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const position = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${path}:${line}:${col}`;
  };
  // One slip makes the parser stumble on everything behind it in that line: the first is the one to mend.
  const [first] = document.errors;
  if (first !== undefined) {
    const line = text.slice(text.lastIndexOf('\n', first.pos[0] - 1) + 1).split('\n', 1)[0] ?? '';
    const advice = /[^"']\{\w+\}/.test(line) ? '; put quotes around a path that holds {…}' : '';
    throw new OperatorError(`${position(first.pos[0])}: not valid YAML: ${first.message}${advice}`);
  }
  let value: unknown;
  try {
    value = document.toJS();
  } catch (error) {
    throw new OperatorError(`${path}: not valid YAML: ${(error as Error).message}`, 1, { cause: error });
  }
  const at = (where: ValuePath): string => {
    let node: unknown = document.contents;
    let offset = startOf(node) ?? 0;
    for (const step of where) {
      const child = childOf(isAlias(node) ? node.resolve(document) : node, step);
      if (child === undefined) break;
      node = child.value;
      offset = startOf(isScalar(node) ? node : (child.key ?? node)) ?? offset;
    }
    return position(offset);
  };
  return { path, value, at };
}

/** The value at a key or index, with the key; a collection is best pointed at by its key, which is in its first line. */
function childOf(
  node: unknown,
  step: string | number,
): { readonly key?: unknown; readonly value: unknown } | undefined {
  if (isSeq(node)) return Number(step) < node.items.length ? { value: node.items[Number(step)] } : undefined;
  if (!isMap(node)) return undefined;
  return node.items.find((pair: Pair) => String(isScalar(pair.key) ? pair.key.value : pair.key) === String(step));
}

function startOf(node: unknown): number | undefined {
  return (node as Node | undefined)?.range?.[0];
}
