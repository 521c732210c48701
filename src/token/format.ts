/**
 * The plaintext of a token: `<prefix>_<id>_<secret><checksum>`, all base62 (0-9 A-Z a-z).
 *
 * id: 12 characters, drawn so that it falls into its tenant's shard. secret: 32 characters from the OS, every one
 * equally likely: 32 * log2(62) = 190.5 bits. checksum: CRC-32 (IEEE) of everything before it, 6 characters, most
 * significant first. The checksum is no protection; it lets a mistyped or invented token be refused without Redis.
 *
 * `parseToken` runs for every request: positions are fixed by the prefix, so that one loop compares and sums characters in
 * place. Lengths are read once: V8 knows strings in so many forms that it looks the property up each time.
 */
import { createHash, randomFillSync, randomInt } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { OperatorError } from '../core/failure.js';
import { shardOf } from '../redis/keys.js';

const alphabet = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const idLength = 12;
/** Endings of two characters. */
const endings = 62 * 62;
const secretLength = 32;
const checksumLength = 6;
const prefixLengthMax = 32;
const underscore = 0x5f;

/** 1 for the character codes of the alphabet. */
const isBase62 = new Uint8Array(128);
for (let i = 0; i < alphabet.length; i++) isBase62[alphabet.charCodeAt(i)] = 1;

/** A token as it is handed to its owner, once. */
export interface IssuedToken {
  readonly id: string;
  /** The whole plaintext. Never stored, never logged. */
  readonly plaintext: string;
}

/**
 * A new id in the shard of its tenant.
 * `tenantSlug` decides the shard; on average 64 endings are tried, in the order of the alphabet from a random one on: an
 * id is no secret, and drawing each of them anew would make the import of many tokens ten times slower.
 */
export function drawTokenId(tenantSlug: string): string {
  const shard = shardOf(tenantSlug);
  for (;;) {
    const stem = randomBase62(idLength - 2);
    const first = randomInt(endings);
    for (let tried = 0; tried < endings; tried++) {
      const ending = (first + tried) % endings;
      const id = stem + alphabet.charAt(Math.floor(ending / 62)) + alphabet.charAt(ending % 62);
      if (shardOf(id) === shard) return id;
    }
  }
}

/** A new plaintext for the id: at creation and at every rotation. */
export function drawPlaintext(prefix: string, id: string): string {
  const body = `${prefix}_${id}_${randomBase62(secretLength)}`;
  return body + checksumOf(body);
}

/** A new id and its plaintext. */
export function issueToken(prefix: string, tenantSlug: string): IssuedToken {
  const id = drawTokenId(tenantSlug);
  return { id, plaintext: drawPlaintext(prefix, id) };
}

/** The id in a well-formed token with the right checksum, else null. Says nothing about whether the token exists. */
export function parseToken(text: string, prefix: string): { id: string } | null {
  const idStart = prefix.length + 1;
  const secretStart = idStart + idLength + 1;
  const checksumStart = secretStart + secretLength;
  const length = checksumStart + checksumLength;
  if (text.length !== length || !text.startsWith(prefix)) return null;
  if (text.charCodeAt(idStart - 1) !== underscore || text.charCodeAt(secretStart - 1) !== underscore) return null;
  let crc = crcBehind(prefix);
  for (let i = idStart; i < checksumStart; i++) {
    const code = text.charCodeAt(i);
    // Beyond the table (>= 128) the answer is undefined, which is not 1 either.
    if (isBase62[code] !== 1 && i !== secretStart - 1) return null;
    crc = (crcTable[(crc ^ code) & 0xff] as number) ^ (crc >>> 8);
  }
  let checksum = ~crc >>> 0;
  for (let i = length - 1; i >= checksumStart; i--) {
    if (text.charCodeAt(i) !== alphabet.charCodeAt(checksum % 62)) return null;
    checksum = Math.floor(checksum / 62);
  }
  return { id: text.slice(idStart, idStart + idLength) };
}

/** CRC-32 by bytes (ISO 3309, as zlib's): in the loop that looks at each character anyway, it costs no call. */
const crcTable = Int32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 1 ? (crc >>> 1) ^ 0xedb8_8320 : crc >>> 1;
  return crc;
});

let knownPrefix = '';
let knownCrc = 0;

/** The register of the CRC behind `<prefix>_`. A process has one prefix. */
function crcBehind(prefix: string): number {
  if (prefix !== knownPrefix) {
    knownPrefix = prefix;
    knownCrc = ~crc32(`${prefix}_`);
  }
  return knownCrc;
}

/** Whether the text could be a token's id; an id that fails this never becomes part of a key name. */
export function isTokenId(text: string): boolean {
  if (text.length !== idLength) return false;
  for (let i = 0; i < idLength; i++) {
    if (isBase62[text.charCodeAt(i)] !== 1) return false;
  }
  return true;
}

/** SHA-256 of a plaintext (UTF-8) in lower-case hex: all that is stored of a Bearer token. */
export function hashPlaintext(plaintext: string): string {
  return createHash('sha256').update(plaintext).digest('hex');
}

/**
 * Checks a configured prefix: lower-case words joined by single underscores, at most 32 characters.
 * @throws OperatorError that names TOLLKEEPER_TOKEN_PREFIX.
 */
export function requireTokenPrefix(prefix: string): string {
  if (prefix.length <= prefixLengthMax && /^[a-z][a-z0-9]*(?:_[a-z0-9]+)*$/.test(prefix)) return prefix;
  throw new OperatorError(
    `The token prefix ${JSON.stringify(prefix)} is not allowed: set TOLLKEEPER_TOKEN_PREFIX to lower-case words ` +
      `joined by "_", such as tk_live, with at most ${prefixLengthMax} characters.`,
    2,
  );
}

/** CRC-32 as 6 base62 characters (62^6 > 2^32), most significant first. */
export function checksumOf(body: string): string {
  let rest = crc32(body);
  let text = '';
  for (let i = 0; i < checksumLength; i++) {
    text = alphabet.charAt(rest % 62) + text;
    rest = Math.floor(rest / 62);
  }
  return text;
}

/** Characters from the OS, each with probability 1/62: bytes from 248 on are thrown away (248 = 4 * 62). */
function randomBase62(length: number): string {
  const bytes = Buffer.allocUnsafe(length * 2);
  let text = '';
  while (text.length < length) {
    randomFillSync(bytes);
    for (let i = 0; i < bytes.length && text.length < length; i++) {
      const byte = bytes[i] as number;
      if (byte < 248) text += alphabet.charAt(byte % 62);
    }
  }
  bytes.fill(0);
  return text;
}
