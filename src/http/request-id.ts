/**
 * Request ids: the client's when it is a sane one, else our own.
 *
 * Our own are 26 characters of Crockford's base 32: 16 random ones a process (80 bits) and a counter of 10. They are
 * unique across processes and rise within one; they are no secret and must never be used as one.
 */
import { randomBytes } from 'node:crypto';

const digits = '0123456789abcdefghjkmnpqrstvwxyz';
const lengthMax = 128;

const saneCharacter = Uint8Array.from({ length: 0x80 }, (_, code) =>
  /[A-Za-z0-9._~:+/=-]/.test(String.fromCharCode(code)) ? 1 : 0,
);

/**
 * Whether a client's id may be logged, forwarded and echoed: 1 to 128 of the letters and digits and `. _ ~ : + / = -`.
 * That takes UUIDs, ULIDs, base64 and trace ids, and nothing with a meaning in HTML, URLs or log formats.
 */
export function saneRequestId(value: string): boolean {
  if (value.length === 0 || value.length > lengthMax) return false;
  for (let at = 0, { length } = value; at < length; at++) {
    const code = value.charCodeAt(at);
    if (code > 0x7e || saneCharacter[code] === 0) return false;
  }
  return true;
}

/** The last two digits of the counter, as text. */
const tails = Array.from({ length: 1024 }, (_, value) => encode(value, 2));
const processPrefix = Array.from(randomBytes(16), (byte) => digits[byte & 31]).join('');

/** How often `tail` has run through all of `tails`. */
let blocks = 0;
let head = processPrefix + encode(0, 8);
let tail = 0;

/** A fresh id; costs one concatenation. */
export function newRequestId(): string {
  if (tail === 1024) {
    tail = 0;
    blocks++;
    head = processPrefix + encode(blocks, 8);
  }
  return head + (tails[tail++] as string);
}

/** `value` in base 32, `width` digits. */
function encode(value: number, width: number): string {
  let text = '';
  for (let rest = value; text.length < width; rest = Math.floor(rest / 32)) text = (digits[rest % 32] as string) + text;
  return text;
}
