/**
 * Loads the Lua scripts and holds each to its contract header.
 *
 * A script opens with a block of comment lines `-- name: value`: `purpose`, `keys`, `argv`, `reply`, `writes`,
 * `complexity`, `cluster`. `keys` and `argv` list names separated by commas; `name...` may repeat. The wrapper in
 * TypeScript states the same lists, and a header that disagrees stops the start: a script and its caller cannot drift.
 * Lines `-- include lib/<file>` are replaced by that file (pure functions only).
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { EncodedCommand } from './encoded-command.js';
import type { RedisConnection } from './target.js';

const headerFields = ['purpose', 'keys', 'argv', 'reply', 'writes', 'complexity', 'cluster'] as const;
type HeaderField = (typeof headerFields)[number];

/** What a wrapper expects of its script; compared with the header of the file when it is loaded. */
export interface ScriptContract {
  readonly name: string;
  readonly keys: readonly string[];
  readonly argv: readonly string[];
}

export interface Script extends ScriptContract {
  readonly header: Readonly<Record<HeaderField, string>>;
  readonly source: string;
}

const luaFolder = new URL('../../lua/', import.meta.url);

/**
 * Reads `lua/<name>.lua`, resolves its includes and checks its header against `contract`.
 * @throws Error when the file or a header field is missing, or the header disagrees: a bug, found at the start.
 */
export function loadScript(contract: ScriptContract): Script {
  const text = readFileSync(new URL(`${contract.name}.lua`, luaFolder), 'utf8');
  const header = parseHeader(contract.name, text);
  for (const field of ['keys', 'argv'] as const) {
    const found = listOf(header[field]).join(', ');
    const expected = contract[field].join(', ');
    if (found !== expected) {
      throw new Error(`lua/${contract.name}.lua: header says ${field}: ${found}; its wrapper expects: ${expected}`);
    }
  }
  const source = text.replace(/^-- include (lib\/[a-z-]+\.lua)$/gm, (_, path: string) =>
    readFileSync(new URL(path, luaFolder), 'utf8'),
  );
  return { ...contract, header, source };
}

/** The contract header of a script's text, continuation lines (`--   more`) joined. */
export function parseHeader(name: string, text: string): Record<HeaderField, string> {
  const found: Partial<Record<HeaderField, string>> = {};
  let current: HeaderField | undefined;
  for (const line of text.split('\n')) {
    if (line.startsWith('#!')) continue;
    if (!line.startsWith('--')) break;
    const opening = /^-- ([a-z]+): (.*)$/.exec(line);
    if (opening && (headerFields as readonly string[]).includes(opening[1] as string)) {
      current = opening[1] as HeaderField;
      found[current] = (opening[2] as string).trim();
    } else if (current !== undefined && /^-- {3}\S/.test(line)) {
      found[current] += ` ${line.slice(2).trim()}`;
    } else {
      current = undefined;
    }
  }
  for (const field of headerFields) {
    if (found[field] === undefined) throw new Error(`lua/${name}.lua: the contract header lacks "${field}"`);
  }
  return found as Record<HeaderField, string>;
}

function listOf(value: string): string[] {
  return value === 'none' ? [] : value.split(',').map((item) => item.trim());
}

/** Runs one script: `keys` and `args` in the order of its contract. The reply's shape is in the script's header. */
export type RunScript = (keys: readonly string[], args: ScriptArguments) => Promise<unknown>;

type ScriptArguments = readonly (string | number | Buffer)[];

/**
 * Binds a script to a connection: EVALSHA, and with the whole script where the server has not got it (a new one, a restart,
 * SCRIPT FLUSH): that one answers NOSCRIPT and has run nothing. `replies` says how strings come back.
 */
export function bindScript(redis: RedisConnection, script: Script, replies: 'text' | 'binary' = 'text'): RunScript {
  const sha = createHash('sha1').update(script.source).digest('hex');
  const options = { replyEncoding: replies === 'text' ? ('utf8' as const) : null };
  const send = (name: string, first: string, scriptKeys: readonly string[], args: ScriptArguments): Promise<unknown> =>
    redis.sendCommand(
      new EncodedCommand(name, [first, scriptKeys.length, ...scriptKeys, ...args], options),
    ) as Promise<unknown>;
  return async (scriptKeys, args) => {
    try {
      return await send('evalsha', sha, scriptKeys, args);
    } catch (error) {
      if (!(error instanceof Error && error.message.startsWith('NOSCRIPT'))) throw error;
      return send('eval', script.source, scriptKeys, args);
    }
  };
}
