/** What is an answer and what is none, by section of RFC 9112; each case whole and split at every byte. */
import { describe, expect, test } from 'vitest';
import { parseAnswer, type ParsedAnswer, type ParseOptions } from '../../support/answer-parser.js';

/** The same verdict whether the bytes come at once, one by one, or cut in two anywhere. */
function parseEachWay(bytes: string, options: ParseOptions = {}): ParsedAnswer {
  const whole = parseAnswer(bytes, options);
  const byByte = parseAnswer(bytes, { ...options, splits: Array.from({ length: bytes.length }, (_, at) => at) });
  expect(byByte).toEqual(whole.verdict === 'invalid' ? { ...whole, body: byByte.body } : whole);
  if (bytes.length < 500) {
    for (let at = 1; at < bytes.length; at++) {
      expect(parseAnswer(bytes, { ...options, splits: [at] }).verdict, `split at ${at}`).toBe(whole.verdict);
    }
  }
  return whole;
}

const ok = (lines: readonly string[], body = ''): string => ['HTTP/1.1 200 OK', ...lines, '', body].join('\r\n');
const chunked = (body: string): string => ok(['Transfer-Encoding: chunked'], body);

describe('section 4, the status line', () => {
  test.each([
    ['HTTP/1.1 200 OK', 200],
    ['HTTP/1.1 200 ', 200],
    ['HTTP/1.1 200', 200], // without the space: not allowed, common, and without danger
    ['HTTP/1.0 200 OK', 200],
    ['HTTP/1.1 404 Not\tFound', 404],
    ['HTTP/1.1 599 \xe4\xf6\xff', 599],
  ])('%j is one', (line, status) => {
    expect(parseEachWay(`${line}\r\nContent-Length: 0\r\n\r\n`)).toMatchObject({ verdict: 'complete', status });
  });

  test.each([
    'HTTP/1.1 20 OK',
    'HTTP/1.1 2000 OK',
    'HTTP/1.1 099 OK',
    'HTTP/1.1 600 OK',
    'HTTP/1.1 2x0 OK',
    'HTTP/1.1  200 OK',
    'HTTP/1.1\t200 OK',
    'HTTP/1.1 200\tOK',
    'HTTP/1.1 200OK',
    'HTTP/1.2 200 OK',
    'HTTP/2.0 200 OK',
    'HTTP/2 200 OK',
    'HTTP/1.11 200 OK',
    'http/1.1 200 OK',
    'HTTP /1.1 200 OK',
    'ICY 200 OK',
    ' HTTP/1.1 200 OK',
    '\r\nHTTP/1.1 200 OK',
    'HTTP/1.1 200 O\0K',
    'HTTP/1.1 200 O\x7fK',
    'HTTP/1.1 200 O\rK',
    'HTTP/1.1 200 O\nK',
  ])('%j is none', (line) => {
    expect(parseEachWay(`${line}\r\nContent-Length: 0\r\n\r\n`).verdict).toBe('invalid');
  });

  test.each(['S', 'HTTP/2', 'HTTP/1.1 2x', 'HTTP/1.1 200x', '\n'])(
    '%j is refused before its line has ended',
    (bytes) => {
      expect(parseAnswer(bytes).verdict).toBe('invalid');
    },
  );
});

describe('section 5, fields', () => {
  test('keep their names, values and order, byte for byte; blanks around a value are not part of it', () => {
    const lines = [
      'X-A:1',
      'x-b:  two words\t ',
      'X-Empty:',
      'X-Blank: \t ',
      "!#$%&'*+-.^_`|~09: x",
      'X-High: \xe4\xff',
    ];
    const { verdict, fields } = parseEachWay(ok([...lines, 'Content-Length: 0']));
    expect(verdict).toBe('complete');
    expect(fields).toEqual(
      [
        ['X-A', '1'],
        ['x-b', 'two words'],
        ['X-Empty', ''],
        ['X-Blank', ''],
        ["!#$%&'*+-.^_`|~09", 'x'],
      ]
        .concat([['X-High', '\xe4\xff']])
        .flat(),
    );
  });

  test.each([
    ['a space before the colon', 'X-A : 1'],
    ['a space in the name', 'X A: 1'],
    ['a name in brackets', '[X]: 1'],
    ['an empty name', ': 1'],
    ['no colon', 'X-A'],
    ['a byte above ASCII in the name', 'X-\xe4: 1'],
    ['a null byte in the name', 'X\0A: 1'],
    ['a null byte in the value', 'X-A: a\0b'],
    ['a delete in the value', 'X-A: a\x7fb'],
    ['an escape in the value', 'X-A: a\x1bb'],
    ['a lone CR', 'X-A: a\rb'],
    ['a lone CR at the end', 'X-A: a\r'],
    ['a lone LF', 'X-A: a\nX-B: b'],
    ['a folded line (section 5.2)', 'X-A: a\r\n b'],
    ['a folded line by tab', 'X-A: a\r\n\tb'],
    ['a line of one space', ' '],
  ])('%s is refused', (_, line) => {
    expect(parseEachWay(ok([line, 'Content-Length: 0'])).verdict).toBe('invalid');
  });

  test('a folded first line is refused', () => {
    expect(parseEachWay('HTTP/1.1 200 OK\r\n X: 1\r\n\r\n').verdict).toBe('invalid');
  });

  test.each([
    ['lines of 32 KiB', [`X-A: ${'a'.repeat(32_000)}`], [`X-A: ${'a'.repeat(33_000)}`]],
    [
      'heads of 64 KiB',
      Array.from({ length: 6 }, () => `X-A: ${'a'.repeat(10_000)}`),
      Array.from({ length: 7 }, () => `X-A: ${'a'.repeat(10_000)}`),
    ],
    ['512 fields', Array.from({ length: 500 }, () => 'X-A: 1'), Array.from({ length: 520 }, () => 'X-A: 1')],
  ])('%s are the limit, also drop by drop', (_, within, beyond) => {
    const drops = Array.from({ length: 70_000 / 50 }, (__, at) => at * 50);
    for (const splits of [[], drops]) {
      expect(parseAnswer(ok([...within, 'Content-Length: 0']), { splits }).verdict).toBe('complete');
      expect(parseAnswer(ok([...beyond, 'Content-Length: 0']), { splits }).verdict).toBe('invalid');
    }
  });

  test('a head without end is refused at the limit, not kept', () => {
    expect(parseAnswer(`HTTP/1.1 200 OK\r\nX-A: ${'a'.repeat(40_000)}`).verdict).toBe('invalid');
    expect(parseAnswer(`HTTP/1.1 200 ${'a'.repeat(40_000)}`).verdict).toBe('invalid');
  });

  test('what Connection names, and hop-by-hop fields, do not go on (RFC 9110 section 7.6.1)', () => {
    const lines = ['Connection: x-inner, Keep-Alive', 'X-Inner: 1', 'connection: X-Other', 'x-other: 2', 'X-Kept: 3'];
    const hops = ['Keep-Alive: timeout=5', 'Proxy-Connection: x', 'Upgrade: h2c', 'Trailer: X', 'TE: trailers'];
    expect(parseEachWay(ok([...lines, ...hops, 'Content-Length: 0'])).fields).toEqual(['X-Kept', '3']);
  });

  test('Connection says close in any case and beside other options', () => {
    for (const value of ['close', 'CLOSE', 'x, Close', 'keep-alive, close']) {
      expect(parseEachWay(ok([`Connection: ${value}`, 'Content-Length: 0'])).closes, value).toBe(true);
    }
    expect(parseEachWay(ok(['Connection: keep-alive', 'Content-Length: 0'])).closes).toBe(false);
    expect(parseEachWay('HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n').closes).toBe(true);
  });
});

describe('section 6, the length of a body', () => {
  test('1: HEAD, 204 and 304 end with their head, whatever it announces', () => {
    for (const lines of [['Content-Length: 5'], ['Transfer-Encoding: chunked'], []]) {
      const bytes = ok(lines, 'next');
      expect(parseEachWay(bytes, { toHead: true })).toMatchObject({ verdict: 'complete', rest: Buffer.from('next') });
      for (const status of ['204 No', '304 Not']) {
        expect(parseEachWay(bytes.replace('200 OK', status))).toMatchObject({
          verdict: 'complete',
          rest: Buffer.from('next'),
        });
      }
    }
  });

  test('interim answers are skipped, sixteen at most; a switch of protocols is none of ours', () => {
    const interim = 'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n';
    const final = ok(['Content-Length: 2'], 'ok');
    const { verdict, status, fields, body } = parseEachWay(`HTTP/1.1 100 Continue\r\n\r\n${interim}${final}`);
    expect([verdict, status, fields, body.toString()]).toEqual(['complete', 200, [], 'ok']);
    expect(parseAnswer(interim.repeat(16) + final).verdict).toBe('complete');
    expect(parseAnswer(interim.repeat(17) + final).verdict).toBe('invalid');
    expect(parseEachWay('HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n').verdict).toBe('invalid');
  });

  test('interim answers count towards the size of the head', () => {
    const interim = `HTTP/1.1 103 Early Hints\r\nLink: ${'a'.repeat(10_000)}\r\n\r\n`;
    expect(parseAnswer(interim.repeat(6) + ok(['Content-Length: 0'])).verdict).toBe('complete');
    expect(parseAnswer(interim.repeat(7) + ok(['Content-Length: 0'])).verdict).toBe('invalid');
  });

  test('3: a length beside a transfer coding is refused, in either order', () => {
    const lines = ['Content-Length: 5', 'Transfer-Encoding: chunked'];
    expect(parseEachWay(ok(lines, '0\r\n\r\n')).verdict).toBe('invalid');
    expect(parseEachWay(ok(lines.toReversed(), '0\r\n\r\n')).verdict).toBe('invalid');
  });

  test.each([
    'gzip',
    'gzip, chunked',
    'chunked, chunked',
    'chunked, identity',
    'identity',
    'xchunked',
    'chunked;a=b',
    '',
  ])('4: the transfer coding %j is refused', (coding) => {
    expect(parseEachWay(ok([`Transfer-Encoding: ${coding}`], '0\r\n\r\n')).verdict).toBe('invalid');
  });

  test('4: chunked is chunked in any case, twice it is refused, in HTTP/1.0 too', () => {
    expect(parseEachWay(ok(['transfer-encoding: Chunked'], '0\r\n\r\n')).verdict).toBe('complete');
    const twice = ['Transfer-Encoding: chunked', 'Transfer-Encoding: chunked'];
    expect(parseEachWay(ok(twice, '0\r\n\r\n')).verdict).toBe('invalid');
    expect(parseEachWay(chunked('0\r\n\r\n').replace('HTTP/1.1', 'HTTP/1.0')).verdict).toBe('invalid');
  });

  test.each(['', '-1', '+1', '1,1', '1, 1', '0x1', '1.0', '1e1', 'one', '1 1', '1;', '\xb2', '1'.repeat(16)])(
    '5: the length %j is refused',
    (length) => {
      expect(parseEachWay(ok([`Content-Length: ${length}`], '1')).verdict).toBe('invalid');
    },
  );

  test('5: two lengths are refused, equal ones too', () => {
    for (const lengths of [
      [1, 2],
      [1, 1],
    ]) {
      expect(
        parseEachWay(
          ok(
            lengths.map((length) => `Content-Length: ${length}`),
            '1',
          ),
        ).verdict,
      ).toBe('invalid');
    }
  });

  test('6: as many bytes as announced are the body, and what follows is not', () => {
    const answer = parseEachWay(ok(['Content-Length: 005'], 'hello world'));
    expect([answer.verdict, answer.body.toString(), answer.rest.toString()]).toEqual(['complete', 'hello', ' world']);
    expect(parseEachWay(ok(['Content-Length: 5'], 'hell'), { ends: true }).verdict).toBe('open');
  });

  test('8: without a length the end of the connection is the end, in order or not at all', () => {
    const bytes = ok([], 'all there is');
    expect(parseEachWay(bytes, { ends: true })).toMatchObject({ verdict: 'complete', closes: true });
    expect(parseEachWay(bytes).verdict).toBe('open');
    expect(parseEachWay('HTTP/1.1 200 OK\r\n', { ends: true }).verdict).toBe('open');
  });
});

describe('section 7, chunks', () => {
  test.each([
    ['0\r\n\r\n', ''],
    ['5\r\nhello\r\n0\r\n\r\n', 'hello'],
    ['5\r\nhello\r\n6\r\n world\r\n000\r\n\r\n', 'hello world'],
    ['A\r\n0123456789\r\n0a\r\n0123456789\r\n0\r\n\r\n', '01234567890123456789'],
    ['2\r\n\r\n\r\n0\r\n\r\n', '\r\n'],
    ['5;a=b;c="d e"\r\nhello\r\n0;last\r\n\r\n', 'hello'],
    ['5\r\nhello\r\n0\r\nX-T: 1\r\nX-U: \xe4\r\n\r\n', 'hello'],
  ])('%j holds %j', (bytes, body) => {
    const answer = parseEachWay(chunked(`${bytes}next`));
    expect([answer.verdict, answer.body.toString(), answer.rest.toString()]).toEqual(['complete', body, 'next']);
  });

  test.each([
    'x\r\nhello\r\n0\r\n\r\n',
    '\r\nhello\r\n0\r\n\r\n',
    ';a\r\nhello\r\n0\r\n\r\n',
    '-5\r\nhello\r\n0\r\n\r\n',
    '+5\r\nhello\r\n0\r\n\r\n',
    '0x5\r\nhello\r\n0\r\n\r\n',
    ' 5\r\nhello\r\n0\r\n\r\n',
    '5 \r\nhello\r\n0\r\n\r\n',
    '5\nhello\r\n0\r\n\r\n',
    '5\r\nhello\n0\r\n\r\n',
    '5\r\nhello0\r\n\r\n',
    '5\r\nhello!\r\n0\r\n\r\n',
    '5\r\rhello\r\n0\r\n\r\n',
    '5;a\n\r\nhello\r\n0\r\n\r\n',
    '5;a\0\r\nhello\r\n0\r\n\r\n',
    '0000000000005\r\nhello\r\n0\r\n\r\n',
    'fffffffffffff\r\nhello',
    '0\r\nX T: 1\r\n\r\n',
    '0\r\nX-T: 1\r\n folded\r\n\r\n',
    '0\r\nX-T: a\rb\r\n\r\n',
    '0\r\nno colon\r\n\r\n',
    '0\r\n\n',
  ])('%j is refused', (bytes) => {
    expect(parseEachWay(chunked(bytes)).verdict).toBe('invalid');
  });

  test('end with their last chunk and its empty line, not with the connection', () => {
    for (const bytes of ['', '5', '5\r\nhel', '5\r\nhello\r\n', '0\r\n', '0\r\nX-T: 1\r\n', '0\r\n\r']) {
      expect(parseEachWay(chunked(bytes), { ends: true }).verdict, bytes).toBe('open');
    }
  });

  test('have extensions of 16 KiB together and trailers of 64 KiB, at most', () => {
    const extended = (count: number): string => chunked(`${`1;${'a'.repeat(999)}\r\nx\r\n`.repeat(count)}0\r\n\r\n`);
    expect(parseAnswer(extended(16)).verdict).toBe('complete');
    expect(parseAnswer(extended(17)).verdict).toBe('invalid');
    const trailed = (count: number): string => chunked(`0\r\n${`X-T: ${'a'.repeat(993)}\r\n`.repeat(count)}\r\n`);
    expect(parseAnswer(trailed(65)).verdict).toBe('complete');
    expect(parseAnswer(trailed(66)).verdict).toBe('invalid');
  });

  test('may be larger than any memory', () => {
    expect(parseAnswer(chunked('ffffffffffff\r\nbegin'))).toMatchObject({
      verdict: 'open',
      body: Buffer.from('begin'),
    });
  });
});
