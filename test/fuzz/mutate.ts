/** Mutations of request bytes (Latin-1), from a seed: the same seed makes the same requests. */

/** mulberry32: uniform in [0, 1). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** What parsers disagree about. */
const fragments = [
  '\r\n',
  '\n',
  '\r',
  '\r\n\r\n',
  '\0',
  '\t',
  ' ',
  ':',
  ': x\r\n',
  '%2e%2e%2f',
  '/../',
  '//',
  '%00',
  '%2f',
  ';',
  '?',
  '#',
  '\\',
  '\x80',
  '\xff',
  'Content-Length: 5\r\n',
  'Content-Length: +5\r\n',
  'Transfer-Encoding: chunked\r\n',
  'Transfer-Encoding : chunked\r\n',
  'transfer-encoding:\tchunked\r\n',
  'Connection: close, authorization\r\n',
  'X-Tollkeeper-Token-Id: admin\r\n',
  'X_Tollkeeper_Scopes: admin:all\r\n',
  'X-Forwarded-For: 10.0.0.1\r\n',
  'X-Original-URL: /api/v1/admin/tokens\r\n',
  'Host: smuggled.test\r\n',
  'Expect: 100-continue\r\n',
  'Upgrade: h2c\r\n',
  'GET /api/v1/admin/tokens HTTP/1.1\r\nHost: smuggled.test\r\n\r\n',
  '5\r\nhello\r\n0\r\n\r\n',
  'HTTP/1.0',
  'HTTP/1.1',
  'A'.repeat(5000),
];

type Random = () => number;

function upTo(random: Random, max: number): number {
  return Math.floor(random() * max);
}

type Mutation = (bytes: string, random: Random, other: string) => string;

const mutations: readonly Mutation[] = [
  function flipBits(bytes, random) {
    const at = upTo(random, bytes.length);
    return replace(bytes, at, at + 1, String.fromCharCode(bytes.charCodeAt(at) ^ (1 << upTo(random, 8))));
  },
  function setByte(bytes, random) {
    const at = upTo(random, bytes.length);
    return replace(bytes, at, at + 1, String.fromCharCode(upTo(random, 256)));
  },
  function remove(bytes, random) {
    const at = upTo(random, bytes.length);
    return replace(bytes, at, at + 1 + upTo(random, 8), '');
  },
  function repeat(bytes, random) {
    const at = upTo(random, bytes.length);
    const piece = bytes.slice(at, at + 1 + upTo(random, 40));
    return replace(bytes, at, at, piece);
  },
  function insertFragment(bytes, random) {
    const at = upTo(random, bytes.length + 1);
    return replace(bytes, at, at, fragments[upTo(random, fragments.length)] as string);
  },
  function insertLine(bytes, random) {
    const lines = bytes.split('\r\n');
    lines.splice(1 + upTo(random, lines.length), 0, (fragments[upTo(random, fragments.length)] as string).trimEnd());
    return lines.join('\r\n');
  },
  function splice(bytes, random, other) {
    return bytes.slice(0, upTo(random, bytes.length)) + other.slice(upTo(random, other.length));
  },
  function follow(bytes, _random, other) {
    return bytes + other;
  },
  function shuffleLines(bytes, random) {
    const end = bytes.indexOf('\r\n\r\n');
    if (end < 0) return bytes;
    const [first = '', ...lines] = bytes.slice(0, end).split('\r\n');
    for (let at = lines.length - 1; at > 0; at -= 1) {
      const with_ = upTo(random, at + 1);
      [lines[at], lines[with_]] = [lines[with_] as string, lines[at] as string];
    }
    return [first, ...lines].join('\r\n') + bytes.slice(end);
  },
  function repeatLine(bytes, random) {
    const lines = bytes.split('\r\n');
    const at = upTo(random, lines.length);
    lines.splice(at, 0, lines[at] as string);
    return lines.join('\r\n');
  },
  function changeCase(bytes, random) {
    const at = upTo(random, bytes.length);
    const piece = bytes.slice(at, at + 12);
    return replace(bytes, at, at + 12, random() < 0.5 ? piece.toUpperCase() : piece.toLowerCase());
  },
  function cutShort(bytes, random) {
    return bytes.slice(0, 1 + upTo(random, bytes.length));
  },
];

const bytesMax = 64 * 1024;

/** One to four mutations of `bytes`; `other` is another request, for splices. */
export function mutate(bytes: string, other: string, random: Random): string {
  let mutated = bytes;
  for (let count = 1 + upTo(random, 4); count > 0; count -= 1) {
    const mutation = mutations[upTo(random, mutations.length)] as Mutation;
    mutated = latin1(mutation(mutated === '' ? bytes : mutated, random, other)).slice(0, bytesMax);
  }
  return mutated;
}

/** Offset to split the bytes at, in two writes; 0 for most requests. */
export function splitPoint(bytes: string, random: Random): number {
  return random() < 0.1 ? upTo(random, bytes.length) : 0;
}

function replace(text: string, from: number, to: number, by: string): string {
  return text.slice(0, from) + by + text.slice(to);
}

/** Changing the case of a character may leave Latin-1. */
function latin1(text: string): string {
  return Buffer.from(text, 'latin1').toString('latin1');
}
