/**
 * The same answers, sound and damaged, split anywhere, to our client, to Node's own and to undici: where ours takes an
 * answer as whole, theirs must take the same answer as whole. Ours may refuse more.
 *
 * Six seconds; TK_FUZZ_SECONDS sets another time, TK_FUZZ_SEED repeats a run, whose seed is printed.
 */
import { once } from 'node:events';
import { request as nodeRequest } from 'node:http';
import { type AddressInfo, createServer, type Server } from 'node:net';
import fc from 'fast-check';
import { Client } from 'undici';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseAnswer } from '../support/answer-parser.js';
import { send, startClient } from '../support/upstream-client.js';

const seconds = Number(process.env.TK_FUZZ_SECONDS ?? 6);
const seed = Number(process.env.TK_FUZZ_SEED ?? Date.now() % 1_000_000_007);

/** What the server sends to everybody next, in these pieces. */
let pieces: Buffer[] = [];
let server: Server;
let port = 0;

beforeAll(async () => {
  server = createServer({ noDelay: true }, (socket) => {
    const toSend = pieces;
    socket.on('error', () => {});
    socket.once('data', () => {
      const next = (at: number): void => {
        const piece = toSend[at];
        if (piece === undefined) socket.end();
        else if (!socket.destroyed) socket.write(piece, () => setImmediate(next, at + 1));
      };
      next(0);
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  ({ port } = server.address() as AddressInfo);
});

afterAll(() => server.close());

interface Verdict {
  readonly isComplete: boolean;
  readonly status: number;
  readonly body: string;
}

const refused: Verdict = { isComplete: false, status: 0, body: '' };

async function ofOurs(method: string): Promise<Verdict> {
  const client = startClient([`http://127.0.0.1:${port}`]);
  const { listener } = send(client, { method });
  await listener.until(() => listener.isOver);
  client.close();
  if (!listener.isComplete) return refused;
  return { isComplete: true, status: listener.status, body: listener.body.toString('latin1') };
}

function ofNode(method: string): Promise<Verdict> {
  return new Promise((resolve) => {
    const request = nodeRequest({ port, method, agent: false, insecureHTTPParser: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', () => resolve(refused));
      response.on('close', () => {
        const body = Buffer.concat(chunks).toString('latin1');
        resolve(response.complete ? { isComplete: true, status: response.statusCode ?? 0, body } : refused);
      });
    });
    request.on('error', () => resolve(refused));
    request.on('upgrade', (_, socket) => {
      socket.destroy();
      resolve(refused);
    });
    request.end();
  });
}

async function ofUndici(method: string): Promise<Verdict> {
  const client = new Client(`http://127.0.0.1:${port}`);
  try {
    const { statusCode, body } = await client.request({ path: '/', method });
    const bytes = Buffer.from(await body.arrayBuffer());
    return { isComplete: true, status: statusCode, body: bytes.toString('latin1') };
  } catch {
    return refused;
  } finally {
    await client.destroy();
  }
}

const line = fc.constantFrom(
  'HTTP/1.1 200 OK',
  'HTTP/1.1 200 OK',
  'HTTP/1.1 200 OK',
  'HTTP/1.1 404 Not Found',
  'HTTP/1.1 200',
  'HTTP/1.0 200 OK',
  'HTTP/1.1 204 No',
  'HTTP/1.1 304 Not',
  'HTTP/1.1 500 ',
  'HTTP/1.1 2000 OK',
  'HTTP/2 200 OK',
  'HTTP/1.1 099 X',
);
const field = fc.constantFrom(
  'X-A: 1',
  'X-B:two words ',
  'Date: now',
  'X-Empty:',
  'X-High: \xe4\xff',
  'Connection: close',
  'X-T: a\tb',
  'Connection: keep-alive',
  'Transfer-Encoding: chunked',
  'Content-Length: 5',
  'Content-Length: 0',
  'X A: 1',
  'Transfer-Encoding: gzip',
  'Content-Length: 5, 5',
  'Content-Length: +5',
  'X: a\r\n b',
  'X: a\nb',
  ': x',
);
const framed = fc.constantFrom(
  ['Content-Length: 5', 'hello'],
  ['Content-Length: 5', 'hello'],
  ['Content-Length: 05', 'hello'],
  ['X: 1', 'hello'],
  ['Transfer-Encoding: chunked', '5\r\nhello\r\n0\r\n\r\n'],
  ['transfer-encoding: CHUNKED', '5\r\nhello\r\n000\r\n\r\n'],
  ['Transfer-Encoding: chunked', '2;a=b\r\nhe\r\n3\r\nllo\r\n0\r\nX-T: 1\r\n\r\n'],
  ['Content-Length: 0', ''],
  ['Transfer-Encoding: chunked', 'A\r\n0123456789\r\n1;a="b c"\r\n!\r\n0\r\n\r\n'],
  ['Content-Length: 6', 'hello'],
);
const edit = fc.record({
  at: fc.double({ min: 0, max: 1, noNaN: true }),
  cut: fc.nat({ max: 2 }),
  put: fc.constantFrom(
    '',
    '\r',
    '\n',
    '\r\n',
    ' ',
    '\t',
    '\0',
    ':',
    ';',
    '0',
    '5',
    'f',
    'x',
    '\x7f',
    '\xff',
    ',',
    '"',
    '=',
  ),
});
const answer = fc
  .record({
    interim: fc.constantFrom(
      '',
      '',
      '',
      'HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n',
      'HTTP/1.1 100 Continue\r\n\r\n',
    ),
    line,
    before: fc.array(field, { maxLength: 2 }),
    framed,
    after: fc.oneof(
      { weight: 3, arbitrary: fc.constant([]) },
      { weight: 1, arbitrary: fc.array(field, { maxLength: 2 }) },
    ),
    behind: fc.constantFrom('', '', '', 'x', '\r\n', 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n!'),
    edits: fc.oneof(fc.constant([]), fc.array(edit, { minLength: 1, maxLength: 2 })),
  })
  .map(({ interim, line: status, before, framed: [head, body], after, behind, edits }) => {
    let bytes = `${interim}${[status, ...before, head, ...after, '', ''].join('\r\n')}${body}${behind}`;
    for (const { at, cut, put } of edits) {
      const place = Math.floor(at * bytes.length);
      bytes = bytes.slice(0, place) + put + bytes.slice(place + cut);
    }
    return bytes;
  });

/** Where undici is known to be wrong: see docs/adr/0018-upstream-client.md. */
function undiciIsWrong(bytes: string, { status }: Verdict): boolean {
  return status === 204 || status === 304 || bytes.startsWith('HTTP/1.1 1');
}

test(
  'what ours takes for a whole answer, Node and undici take for the same one, however it is split',
  async () => {
    let cases = 0;
    let whole = 0;
    console.log(`upstream differential: TK_FUZZ_SEED=${seed}`);
    const splits = fc.uniqueArray(fc.nat({ max: 250 }), { maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(answer, splits, fc.constantFrom('GET', 'GET', 'GET', 'HEAD'), async (bytes, cuts, method) => {
        const all = Buffer.from(bytes, 'latin1');
        const at = [0, ...cuts.filter((cut) => cut > 0 && cut < all.length).sort((one, other) => one - other)];
        const splitUpTo = (end: number): Buffer[] =>
          at
            .map((start, index) => all.subarray(start, Math.min(at[index + 1] ?? end, end)))
            .filter(({ length }) => length > 0);
        pieces = splitUpTo(all.length);
        const ours = await ofOurs(method);
        cases += 1;
        const parsed = parseAnswer(all, { toHead: method === 'HEAD', ends: true });
        expect(ours.isComplete).toBe(parsed.verdict === 'complete');
        if (!ours.isComplete) return;
        whole += 1;
        // What lies behind a whole answer ends our connection, and with the others the answer too if it comes at once.
        pieces = splitUpTo(all.length - parsed.rest.length);
        const [node, other] = await Promise.all([ofNode(method), ofUndici(method)]);
        expect(node).toEqual(ours);
        if (!undiciIsWrong(bytes, ours)) expect(other).toEqual(ours);
      }),
      { seed, numRuns: 1_000_000, interruptAfterTimeLimit: seconds * 1000, markInterruptAsFailure: false },
    );
    console.log(`upstream differential: ${cases} answers, ${whole} of them whole`);
    expect(whole).toBeGreaterThan(cases / 20);
    expect(whole).toBeLessThan(cases);
  },
  (seconds + 60) * 1000,
);

test('the same bytes give the same verdict, fields and body however they are split', () => {
  fc.assert(
    fc.property(
      answer,
      fc.uniqueArray(fc.nat({ max: 250 }), { maxLength: 12 }),
      fc.boolean(),
      (bytes, cuts, toHead) => {
        const whole = parseAnswer(bytes, { toHead, ends: true });
        const splits = cuts.sort((one, other) => one - other);
        const split = parseAnswer(bytes, { toHead, ends: true, splits });
        expect(split.verdict).toBe(whole.verdict);
        if (whole.verdict === 'complete') expect(split).toMatchObject({ fields: whole.fields, body: whole.body });
      },
    ),
    { seed, numRuns: 20_000, interruptAfterTimeLimit: 5000, markInterruptAsFailure: false },
  );
});
