/** What each source of configuration says, before any of it is checked: values with the place they come from. */
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { isMap, isScalar, isSeq, LineCounter, type Pair, parseDocument, type YAMLError } from 'yaml';
import { type ConfigKey, configKeys, describeKey, environmentName } from './schema.js';
import { nearestName } from './nearest.js';

/** Something wrong with the configuration; no field ever holds the value of a secret. */
export interface ConfigProblem {
  /** The key or variable as the operator knows it. */
  readonly key: string;
  /** What was found and what is allowed. */
  readonly message: string;
  /** `file:line`, the environment variable or the flag. */
  readonly source: string;
}

export interface Setting {
  readonly value: unknown;
  readonly source: string;
  /** Of a list in YAML: where each item stands. */
  readonly itemSources?: readonly string[];
  /** In YAML: the line of an element below it. */
  readonly lineOf?: (path: readonly (string | number)[]) => number;
}

/** One source: what it sets, and what in it could not even be read. */
export interface Layer {
  readonly settings: ReadonlyMap<ConfigKey, Setting>;
  readonly problems: readonly ConfigProblem[];
}

const known: ReadonlySet<string> = new Set(configKeys);

/** Keys that may be given as a file holding the value: `masterKeyFile`, `TOLLKEEPER_MASTER_KEY_FILE`. */
const secretKeys: readonly ConfigKey[] = configKeys.filter((key) => describeKey(key).secret === true);

class LayerBuilder implements Layer {
  readonly settings = new Map<ConfigKey, Setting>();
  readonly problems: ConfigProblem[] = [];

  set(key: ConfigKey, setting: Setting): void {
    const other = this.settings.get(key);
    if (other === undefined) this.settings.set(key, setting);
    else this.problem(key, `set twice, here and by ${other.source}; keep one`, setting.source);
  }

  problem(key: string, message: string, source: string): void {
    this.problems.push({ key, message, source });
  }

  /** Sets a secret from the file that holds it, without the line break at its end. */
  setFromFile(key: ConfigKey, path: string, source: string): void {
    try {
      const value = readFileSync(path, 'utf8').replace(/\r?\n$/, '');
      if (value === '') this.problem(key, `${path} is empty; it must hold the value`, source);
      else this.set(key, { value, source });
    } catch (error) {
      this.problem(key, `cannot read ${path} (${reasonOf(error)})`, source);
    }
  }
}

/** The variables of the environment. An empty one counts as not set. */
export function readEnvironment(env: NodeJS.ProcessEnv): Layer {
  const layer = new LayerBuilder();
  const names = new Map(configKeys.map((key) => [environmentName(key), key]));
  const fileNames = new Map(secretKeys.map((key) => [`${environmentName(key)}_FILE`, key]));
  for (const [name, text] of Object.entries(env).sort(([one], [other]) => (one < other ? -1 : 1))) {
    if (!name.startsWith('TOLLKEEPER_') || text === undefined || text === '') continue;
    const key = names.get(name);
    const fileKey = fileNames.get(name);
    if (key !== undefined) {
      layer.set(key, { value: fromText(key, text), source: name });
    } else if (fileKey !== undefined) {
      layer.setFromFile(fileKey, resolve(text), name);
    } else if (!isServiceVariable(name, text)) {
      layer.problem(name, unknownMessage('variable', name, [...names.keys(), ...fileNames.keys()]), 'environment');
    }
  }
  return layer;
}

/** Values given on the command line, by key; texts are read as in the environment. */
export function readFlags(flags: Readonly<Partial<Record<ConfigKey, unknown>>>): Layer {
  const layer = new LayerBuilder();
  for (const [name, value] of Object.entries(flags)) {
    if (value === undefined) continue;
    const key = name as ConfigKey;
    const source = `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
    layer.set(key, { value: typeof value === 'string' ? fromText(key, value) : value, source });
  }
  return layer;
}

/** The YAML file at `path`; relative paths in it start from its folder. */
export function readConfigFile(path: string): Layer {
  const layer = new LayerBuilder();
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    layer.problem(path, `cannot read the configuration file (${reasonOf(error)})`, '--config');
    return layer;
  }
  const lines = new LineCounter();
  // Pretty errors quote the file, and what they quote may be a secret.
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const placeAt = (offset: number) => `${path}:${lines.linePos(offset).line}`;
  const faults = [...document.errors, ...document.warnings];
  for (const fault of faults) layer.problem(path, syntaxMessage(fault), placeAt(fault.pos[0]));
  // A key that stands twice hides nothing else that is wrong.
  if (faults.some(({ code }) => code !== 'DUPLICATE_KEY') || document.contents === null) return layer;
  if (!isMap(document.contents)) {
    layer.problem(path, 'must hold keys with values, such as "workers: 2"', placeAt(0));
    return layer;
  }
  const named = new Set<string>();
  for (const pair of document.contents.items as Pair[]) {
    const place = placeAt(startOf(pair.key));
    const name = nameOf(pair.key);
    if (name !== '?' && named.has(name)) continue;
    named.add(name);
    let value: unknown;
    try {
      value = toPlain(pair.value, document);
    } catch {
      // The parser leaves aliases to this moment; its message would quote the file.
      layer.problem(name, 'uses an alias (*name) that is not defined before it, or too many of them', place);
      continue;
    }
    if (known.has(name)) {
      const key = name as ConfigKey;
      layer.set(key, {
        value: fromFile(key, value, dirname(path)),
        source: place,
        ...(isSeq(pair.value) ? { itemSources: pair.value.items.map((item) => placeAt(startOf(item))) } : {}),
        lineOf: lineFinder(pair, lines),
      });
      continue;
    }
    const secret = secretKeys.find((key) => `${key}File` === name);
    if (secret === undefined) {
      layer.problem(
        name,
        unknownMessage('key', name, [...configKeys, ...secretKeys.map((key) => `${key}File`)]),
        place,
      );
    } else if (typeof value === 'string' && value !== '') {
      layer.setFromFile(secret, resolve(dirname(path), value), place);
    } else {
      layer.problem(name, 'must be the path of a file that holds the value', place);
    }
  }
  return layer;
}

/** A text as the type that the key wants; left as text where it does not read as one, for the schema to refuse. */
function fromText(key: ConfigKey, text: string): unknown {
  const { kind } = describeKey(key);
  if (kind === 'integer') return /^(0|-?[1-9]\d{0,15})$/.test(text) ? Number(text) : text;
  if (kind === 'switch') return text === 'true' ? true : text === 'false' ? false : text;
  if (kind === 'list') return itemsOf(text);
  return kind === 'path' || kind === 'policy' ? resolve(text) : text;
}

function itemsOf(text: string): string[] {
  return text.split(',').map((item) => item.trim());
}

function fromFile(key: ConfigKey, value: unknown, folder: string): unknown {
  const { kind, mayStandAlone } = describeKey(key);
  if (mayStandAlone === true && typeof value === 'string') return itemsOf(value);
  return typeof value === 'string' && value !== '' && (kind === 'path' || kind === 'policy')
    ? resolve(folder, value)
    : value;
}

/**
 * Kubernetes sets such variables in every container beside a Service named `tollkeeper` or `tollkeeper-…`; they are
 * no configuration (Kubernetes documentation, "Discovering services: environment variables").
 */
function isServiceVariable(name: string, text: string): boolean {
  if (/_SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)$/.test(name)) return true;
  if (/_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$/.test(name)) return true;
  return name.endsWith('_PORT') && /^(tcp|udp|sctp):\/\//.test(text);
}

function unknownMessage(what: 'key' | 'variable', name: string, candidates: readonly string[]): string {
  const meant = nearestName(name, candidates);
  return meant === undefined
    ? `unknown ${what}; docs/configuration.md lists them all`
    : `unknown ${what}, did you mean ${meant}?`;
}

/** What is wrong with the YAML itself; the parser's own messages may quote the file. */
function syntaxMessage(error: YAMLError): string {
  return syntaxMessages[error.code] ?? `is not valid YAML here (${error.code.toLowerCase().replaceAll('_', ' ')})`;
}

const syntaxMessages: Partial<Record<YAMLError['code'], string>> = {
  DUPLICATE_KEY: 'the same key stands twice; keep one',
  TAB_AS_INDENT: 'is indented with a tab; YAML allows spaces only',
  MULTIPLE_DOCS: 'holds more than one document; keep one',
  BAD_INDENT: 'is indented wrongly here',
};

/** The text of a key; `?` for what is no name, since it may be a secret behind a forgotten space (`{adminKey:…}`). */
function nameOf(node: unknown): string {
  const name = isScalar(node) ? String(node.value) : '';
  return /^[\w.-]{1,64}$/.test(name) ? name : '?';
}

function startOf(node: unknown): number {
  return (node as { range?: readonly [number, number, number] } | null)?.range?.[0] ?? 0;
}

function toPlain(node: unknown, document: ReturnType<typeof parseDocument>): unknown {
  return (node as { toJS(document: unknown): unknown } | null)?.toJS(document) ?? null;
}

/** Finds the line of an element below `pair`; an element that is not there gets the line of its nearest parent. */
function lineFinder(pair: Pair, lines: LineCounter): (path: readonly (string | number)[]) => number {
  return (path) => {
    let place = startOf(pair.key);
    let node: unknown = pair.value;
    for (const step of path) {
      if (isMap(node)) {
        const next = node.items.find(({ key }) => isScalar(key) && String(key.value) === String(step));
        if (next === undefined) break;
        place = startOf(next.key);
        node = next.value;
      } else if (isSeq(node) && typeof step === 'number' && step < node.items.length) {
        node = node.items[step];
        place = startOf(node);
      } else {
        break;
      }
    }
    return lines.linePos(place).line;
  };
}

function reasonOf(error: unknown): string {
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'ENOENT') return 'no such file';
  if (code === 'EACCES') return 'permission denied';
  if (code === 'EISDIR') return 'it is a folder';
  return code ?? 'it cannot be read';
}
