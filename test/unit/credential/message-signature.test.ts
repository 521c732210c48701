import { createHash, createHmac } from 'node:crypto';
import { readFileSync } from 'node:fs';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  coverageGap,
  declaredSha256,
  type MessageSignature,
  messageSignatureMatches,
  parseMessageSignature,
  signatureBase,
  type SignedMessage,
} from '../../../src/credential/message-signature.js';

const secret = 'tk_test_Vector000001_NotASecretOnlyForTestVectors00013x9fYD';
const id = 'Vector000001';
const body = '{"hello": "world"}';
const noSignature = Buffer.alloc(32).toString('base64');

const fieldsOf =
  (fields: Readonly<Record<string, string>>) =>
  (name: string): string | undefined =>
    Object.hasOwn(fields, name) ? fields[name] : undefined;

/** The request of RFC 9421, appendix B.2. */
const rfcRequest: SignedMessage = {
  method: 'POST',
  scheme: 'https',
  host: 'example.com',
  target: '/foo?param=Value&Pet=dog',
  field: fieldsOf({
    date: 'Tue, 20 Apr 2021 02:07:55 GMT',
    'content-type': 'application/json',
    'content-digest':
      'sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:',
    'content-length': '18',
  }),
};
/** Its `test-shared-secret` (appendix B.1.5). */
const rfcSecret = Buffer.from(
  'uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==',
  'base64',
);
const rfcInput = 'sig-b25=("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"';
const rfcSignature = 'sig-b25=:pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=:';

function parsed(input: string, signature = `sig=:${noSignature}:`): MessageSignature {
  const result = parseMessageSignature(input, signature);
  if ('refused' in result) throw new Error(result.refused);
  return result;
}

/** Signs a message by the RFC, for round trips. */
function signed(inner: string, message: SignedMessage, key: string = secret): MessageSignature {
  const base = signatureBase(parsed(`sig=${inner}`), message) as string;
  const signature = createHmac('sha256', key).update(base).digest('base64');
  return parsed(`sig=${inner}`, `sig=:${signature}:`);
}

const full = `("@method" "@path" "@query" "content-digest");created=1767225600;keyid="${id}";nonce="n1"`;
const message: SignedMessage = {
  method: 'POST',
  scheme: 'https',
  host: 'store.example.com',
  target: '/api/v1/orders?notify=1',
  field: fieldsOf({ 'content-digest': `sha-256=:${createHash('sha256').update(body).digest('base64')}:` }),
};

describe('RFC 9421, appendix B.2.5 (hmac-sha256)', () => {
  test('the signature base is that of the RFC', () => {
    expect(signatureBase(parsed(rfcInput, rfcSignature), rfcRequest)).toBe(
      [
        '"date": Tue, 20 Apr 2021 02:07:55 GMT',
        '"@authority": example.com',
        '"content-type": application/json',
        '"@signature-params": ("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"',
      ].join('\n'),
    );
  });

  test('the signature matches, under its own secret only', () => {
    expect(messageSignatureMatches(rfcSecret, parsed(rfcInput, rfcSignature), rfcRequest)).toBe(true);
    expect(messageSignatureMatches(secret, parsed(rfcInput, rfcSignature), rfcRequest)).toBe(false);
  });

  test('is refused all the same, because it covers neither method nor target nor body', () => {
    expect(coverageGap(parsed(rfcInput, rfcSignature), true)).toEqual({ refused: 'The signature must cover @method.' });
  });
});

describe('coverage', () => {
  test.each([
    ['path and query', full],
    ['the target URI', `("@method" "@target-uri" "content-digest");created=1;keyid="${id}"`],
    [
      'more than is needed',
      `("date" "@authority" "@method" "@target-uri" "content-digest");created=1;keyid="${id}";alg="hmac-sha256";tag="t"`,
    ],
    ['an end later than its beginning', `("@method" "@target-uri" "content-digest");created=1;expires=2;keyid="${id}"`],
  ])('of method, body, created, keyid and %s is enough', (_, inner) => {
    expect(coverageGap(parsed(`sig=${inner}`), true)).toBeUndefined();
  });

  test('without content-digest is enough only when there is no body', () => {
    const signature = parsed(`sig=("@method" "@target-uri");created=1;keyid="${id}"`);
    expect(coverageGap(signature, false)).toBeUndefined();
    expect(coverageGap(signature, true)?.refused).toContain('content-digest');
  });

  test.each([
    ['nothing', `();created=1;keyid="${id}"`],
    ['no method', `("@target-uri" "content-digest");created=1;keyid="${id}"`],
    ['no target', `("@method" "content-digest");created=1;keyid="${id}"`],
    ['the path without the query', `("@method" "@path" "content-digest");created=1;keyid="${id}"`],
    ['the query without the path', `("@method" "@query" "content-digest");created=1;keyid="${id}"`],
    ['the host in place of the target', `("@method" "@authority" "content-digest");created=1;keyid="${id}"`],
    ['no time', `("@method" "@target-uri" "content-digest");keyid="${id}"`],
    ['an end before its beginning', `("@method" "@target-uri" "content-digest");created=5;expires=5;keyid="${id}"`],
    ['no key', '("@method" "@target-uri" "content-digest");created=1'],
    ['a key that is no token id', '("@method" "@target-uri" "content-digest");created=1;keyid="../x"'],
  ])('of %s is refused', (_, inner) => {
    expect(coverageGap(parsed(`sig=${inner}`), true)?.refused).toMatch(/\.$/);
  });
});

describe('a signature', () => {
  test('matches the message it was made of, and stands for its key, time and nonce', () => {
    const signature = signed(full, message);
    expect(messageSignatureMatches(secret, signature, message)).toBe(true);
    expect(signature).toMatchObject({ label: 'sig', keyId: id, createdS: 1767225600, expiresS: -1, nonce: 'n1' });
  });

  test('matches no message that differs in anything it covers', () => {
    const signature = signed(full, message);
    const digest = `sha-256=:${createHash('sha256').update('other').digest('base64')}:`;
    const others: Partial<SignedMessage>[] = [
      { method: 'PUT' },
      { target: '/api/v1/order?notify=1' },
      { target: '/api/v1/orders?notify=2' },
      { target: '/api/v1/orders' },
      { field: fieldsOf({ 'content-digest': digest }) },
      { field: fieldsOf({}) },
      { field: fieldsOf({ 'content-digest': 'sha-256=:AA==:\n"x": y' }) },
    ];
    for (const other of others)
      expect(messageSignatureMatches(secret, signature, { ...message, ...other })).toBe(false);
    expect(messageSignatureMatches(`${secret}x`, signature, message)).toBe(false);
  });

  test('matches under no other parameters', () => {
    const { signature } = signed(full, message);
    const changes = [
      ['created=1767225600', 'created=1767225601'],
      ['nonce="n1"', 'nonce="n2"'],
      [';nonce="n1"', ''],
      ['"@path" "@query"', '"@query" "@path"'],
      [`keyid="${id}"`, 'keyid="Vector000002"'],
      [';nonce="n1"', ';nonce="n1";expires=1767225700'],
    ] as const;
    for (const [from, to] of changes) {
      const other = parsed(`sig=${full.replace(from, to)}`, `sig=:${signature.toString('base64')}:`);
      expect(other.parameters).not.toBe(parsed(`sig=${full}`).parameters);
      expect(messageSignatureMatches(secret, other, message)).toBe(false);
    }
  });

  test('has no base, and matches nothing, when a value could pass for lines of its own', () => {
    for (const value of ['a\n"@method": PUT', 'a\r', 'caf\u00e9', '\0']) {
      const other = { ...message, field: fieldsOf({ 'content-digest': value }) };
      expect(signatureBase(parsed(`sig=${full}`), other)).toBeUndefined();
    }
  });

  test('that differs in one bit does not match', () => {
    fc.assert(
      fc.property(fc.nat(255), (bit) => {
        const right = signed(full, message);
        const bytes = Buffer.from(right.signature);
        bytes[bit >> 3] = (bytes[bit >> 3] as number) ^ (1 << (bit & 7));
        expect(messageSignatureMatches(secret, { ...right, signature: bytes }, message)).toBe(false);
      }),
    );
  });

  test('takes the authority in lower case and without the default port', () => {
    const inner = `("@method" "@target-uri" "@authority");created=1;keyid="${id}"`;
    const signature = signed(inner, message);
    for (const host of ['STORE.example.com', 'store.example.com:443']) {
      expect(messageSignatureMatches(secret, signature, { ...message, host })).toBe(true);
    }
    for (const host of ['store.example.com:80', 'store.example.com:8443', 'other.example.com']) {
      expect(messageSignatureMatches(secret, signature, { ...message, host })).toBe(false);
    }
    expect(messageSignatureMatches(secret, signature, { ...message, scheme: 'http' })).toBe(false);
  });
});

describe('fields are refused', () => {
  const ok = `("@method");created=1;keyid="${id}"`;
  const bytes = `:${noSignature}:`;
  test.each([
    ['empty', '', ''],
    ['that are no structured fields', 'sig=(', `sig=${bytes}`],
    ['with a signature that is no structured field', `sig=${ok}`, 'sig=:%%:'],
    ['with two signatures', `a=${ok}, b=${ok}`, `a=${bytes}, b=${bytes}`],
    ['with a signature that is not described', `a=${ok}`, `a=${bytes}, b=${bytes}`],
    ['with different labels', `a=${ok}`, `b=${bytes}`],
    ['without a list of components', 'sig="@method";created=1', `sig=${bytes}`],
    ['with a signature of 31 bytes', `sig=${ok}`, `sig=:${Buffer.alloc(31).toString('base64')}:`],
    ['with a signature of 33 bytes', `sig=${ok}`, `sig=:${Buffer.alloc(33).toString('base64')}:`],
    ['with a signature that is text', `sig=${ok}`, `sig="${noSignature}"`],
    ['with a signature that is a list', `sig=${ok}`, `sig=(${bytes})`],
    ['with a component in upper case', 'sig=("Date");created=1', `sig=${bytes}`],
    ['with a component that is a token', 'sig=(date);created=1', `sig=${bytes}`],
    ['with a component twice', 'sig=("date" "date");created=1', `sig=${bytes}`],
    ['with a component that quotes', 'sig=("da\\"te");created=1', `sig=${bytes}`],
    ['with a component of a response', 'sig=("@status");created=1', `sig=${bytes}`],
    ['with a component that is not known', 'sig=("@everything");created=1', `sig=${bytes}`],
    ['with part of a field', 'sig=("content-digest";key="sha-256");created=1', `sig=${bytes}`],
    ['with a query parameter', 'sig=("@query-param";name="a");created=1', `sig=${bytes}`],
    ['of another message', 'sig=("@method";req);created=1', `sig=${bytes}`],
    ['that sign themselves', 'sig=("signature");created=1', `sig=${bytes}`],
    ['with another algorithm', `sig=${ok};alg="rsa-pss-sha512"`, `sig=${bytes}`],
    ['with an algorithm that is a token', `sig=${ok};alg=hmac-sha256`, `sig=${bytes}`],
    ['with a time in fractions', 'sig=("@method");created=1.5', `sig=${bytes}`],
    ['with a time that is text', 'sig=("@method");created="1"', `sig=${bytes}`],
    ['with a time that is a date', 'sig=("@method");created=@1', `sig=${bytes}`],
    ['with a negative time', 'sig=("@method");created=-1', `sig=${bytes}`],
    ['with a time in milliseconds', 'sig=("@method");created=1767225600000', `sig=${bytes}`],
    ['with an empty nonce', `sig=${ok};nonce=""`, `sig=${bytes}`],
    ['with a nonce with a space', `sig=${ok};nonce="a b"`, `sig=${bytes}`],
    ['with a nonce that is too long', `sig=${ok};nonce="${'n'.repeat(65)}"`, `sig=${bytes}`],
    ['with a keyid that is a token', 'sig=("@method");created=1;keyid=abc', `sig=${bytes}`],
    ['with a label twice', `sig=("x");created=1, sig=${ok}`, `sig=${bytes}`],
    ['with a label twice in Signature', `sig=${ok}`, `sig=:AAAA:, sig=${bytes}`],
    ['with a parameter twice', `sig=${ok};keyid="${id}"`, `sig=${bytes}`],
    ['with the time twice', `sig=("@method");created=2;created=1;keyid="${id}"`, `sig=${bytes}`],
    ['with a time that ends in .0', `sig=("@method");created=1.0;keyid="${id}"`, `sig=${bytes}`],
    ['with a time that begins with 0', `sig=("@method");created=01;keyid="${id}"`, `sig=${bytes}`],
    ['with a negative zero for a time', `sig=("@method");created=-0;keyid="${id}"`, `sig=${bytes}`],
    ['with a parameter that is not known', `sig=${ok};context="x"`, `sig=${bytes}`],
  ])('%s', (_, input, signature) => {
    const result = parseMessageSignature(input, signature);
    expect(result).toHaveProperty('refused');
    expect(coverageGapOrRefusal(result)).toMatch(/^[A-Za-z].*\.$/);
  });

  test('never for spaces where the syntax has room for them', () => {
    const input = `  sig=( "@method"   "@path" );  created=1; keyid="${id}";tag="a, b"  `;
    expect(parseMessageSignature(input, `  sig=${bytes} `)).toMatchObject({ components: ['@method', '@path'] });
  });

  test('of any text without an exception', () => {
    const unit = fc.constantFrom(...'sig=("@method" "date");created1keyid,:AA==?%\\\n\u0100'.split(''));
    fc.assert(
      fc.property(fc.string({ unit, maxLength: 60 }), fc.string({ unit, maxLength: 60 }), (input, signature) => {
        expect(parseMessageSignature(input, signature)).toHaveProperty('refused');
      }),
      { numRuns: 500 },
    );
  });
});

function coverageGapOrRefusal(result: ReturnType<typeof parseMessageSignature>): string | undefined {
  return 'refused' in result ? result.refused : coverageGap(result, false)?.refused;
}

describe('Content-Digest', () => {
  const digest = createHash('sha256').update(body).digest();
  const hex = digest.toString('hex');
  const sha256 = `sha-256=:${digest.toString('base64')}:`;

  test('speaks by its sha-256, alone or beside others', () => {
    expect(declaredSha256(sha256)).toBe(hex);
    expect(declaredSha256(`sha-512=:AAAA:, ${sha256}`)).toBe(hex);
    // The example of RFC 9530: the digest of {"hello": "world"}, there with a line feed at its end.
    const rfc = 'sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:';
    expect(declaredSha256(rfc)).toBe(createHash('sha256').update(`${body}\n`).digest('hex'));
  });

  test.each([
    ['nothing', ''],
    ['another algorithm only', 'sha-512=:AAAA:'],
    ['a shortened digest', `sha-256=:${digest.subarray(0, 31).toString('base64')}:`],
    ['text in place of bytes', `sha-256="${digest.toString('base64')}"`],
    ['hex', `sha-256=:${digest.toString('hex')}:`],
    ['the older Digest syntax', `sha-256=${digest.toString('base64')}`],
    ['a second, wrong digest', `${sha256}, sha-256=:AAAA:`],
  ])('of %s names no digest', (_, value) => {
    expect(declaredSha256(value)).toBe('');
  });
});

test('the example of docs/hmac.md is signed over the base that stands below it', () => {
  const guide = readFileSync(new URL('../../../docs/hmac.md', import.meta.url), 'utf8');
  const [, sent = '', base = ''] = /```http\n([^`]*)```[^`]*```text\n([^`]*)\n```/.exec(guide) ?? [];
  const [head = '', content = ''] = sent.split('\n\n');
  const [line = '', ...lines] = head.split('\n');
  const [method = '', target = ''] = line.split(' ');
  const fields = Object.fromEntries(
    lines.map((text) => [text.split(':', 1)[0]?.toLowerCase(), text.replace(/^[^:]*: /, '')]),
  );
  const signature = parsed(fields['signature-input'] as string, fields['signature'] as string);
  const request = { method, scheme: 'https', host: fields['host'] as string, target, field: fieldsOf(fields) };
  expect(signatureBase(signature, request)).toBe(base);
  expect(coverageGap(signature, true)).toBeUndefined();
  expect(messageSignatureMatches(secret, signature, request)).toBe(true);
  const digest = createHash('sha256').update(content.trimEnd()).digest('hex');
  expect(declaredSha256(fields['content-digest'] as string)).toBe(digest);
});
