/** A great number of tokens that nobody has to keep: each is derived from its number. */
import { createHash } from 'node:crypto';
import { checksumOf } from '../../src/token/format.js';

export interface ManyToken {
  readonly id: string;
  readonly plaintext: string;
}

const alphabet = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

/** The token of a number, the same in every process. */
export function manyToken(number: number): ManyToken {
  const bytes = createHash('sha512').update(`many ${number}`).digest();
  let id = '';
  let secret = '';
  for (let at = 0; at < 12; at++) id += alphabet.charAt((bytes[at] as number) % 62);
  for (let at = 12; at < 44; at++) secret += alphabet.charAt((bytes[at] as number) % 62);
  const body = `tk_live_${id}_${secret}`;
  return { id, plaintext: body + checksumOf(body) };
}
