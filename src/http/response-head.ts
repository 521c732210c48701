/**
 * What of the upstream's head goes to the client: end-to-end fields, byte for byte as they came and in their order.
 *
 * Hot path: a name that was seen before costs one Map look-up by its spelling.
 */
import { dropResponseHeader } from './drop-list.js';
import { parseConnectionOptions } from './field.js';

const uses = { copy: 0, drop: 1, contentLength: 2, connection: 3 } as const;
type Use = (typeof uses)[keyof typeof uses];

/** Spellings of field names seen so far; bounded, since an upstream may echo its callers. */
const useBySpelling = new Map<string, Use>();
const spellingsMax = 2000;

/** Announced length of an answer that announces none. */
export const noLength = -1;

/** Where fields go; a response of uWebSockets.js is one. */
export interface FieldTarget {
  writeHeader(name: Buffer, value: Buffer): unknown;
}

/**
 * Copies the end-to-end fields of `headers` (flat name, value, …) and answers the announced body length in bytes,
 * {@link noLength} when there is none. Left out are hop-by-hop fields, those that Connection names (RFC 9110 section
 * 7.6.1), and those this hop writes itself.
 */
export function copyEndToEndFields(headers: readonly Buffer[], target: FieldTarget): number {
  let length: number = noLength;
  let connection = '';
  for (let at = 0; at + 1 < headers.length; at += 2) {
    const use = useOf((headers[at] as Buffer).toString('latin1'));
    if (use === uses.contentLength) length = Number((headers[at + 1] as Buffer).toString('latin1'));
    else if (use === uses.connection) connection += `,${(headers[at + 1] as Buffer).toString('latin1')}`;
  }
  const options = namedByConnection(connection);
  for (let at = 0; at + 1 < headers.length; at += 2) {
    const name = (headers[at] as Buffer).toString('latin1');
    if (useOf(name) !== uses.copy) continue;
    if (options.length !== 0 && options.includes(name.toLowerCase())) continue;
    target.writeHeader(headers[at] as Buffer, headers[at + 1] as Buffer);
  }
  return length;
}

function namedByConnection(connection: string): readonly string[] {
  return connection === '' || connection === ',keep-alive' || connection === ',close'
    ? []
    : parseConnectionOptions(connection);
}

function useOf(name: string): Use {
  const known = useBySpelling.get(name);
  if (known !== undefined) return known;
  const lower = name.toLowerCase();
  let use: Use = dropResponseHeader(lower) ? uses.drop : uses.copy;
  if (lower === 'content-length') use = uses.contentLength;
  else if (lower === 'connection') use = uses.connection;
  if (useBySpelling.size < spellingsMax) useBySpelling.set(name, use);
  return use;
}
