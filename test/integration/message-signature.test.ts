/** RFC 9421 through real sidecars: what is admitted, what signs too little, and that nothing is used twice. */
import { createHash, createHmac, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { signRequest } from '../../src/sign/sign.js';
import { type Answer, call, slugOf } from '../support/http-client.js';
import { type Installation, type IssuedToken, startInstallation } from '../support/installation.js';
import { rawExchange } from '../support/raw-client.js';
import type { Sidecar } from '../support/sidecar.js';

const path = '/api/v1/products';
const search = '/api/v1/products/search';
const nowS = (): number => Math.floor(Date.now() / 1000);

let installation: Installation;
let sidecars: Sidecar[];
let signer: IssuedToken;
let bearer: IssuedToken;

beforeAll(async () => {
  installation = await startInstallation();
  await installation.tenant('acme', '--max-tokens', '100');
  const generous = ['--limit', '100000', '--window', '60'];
  signer = await installation.token('acme', '--name', 'signer', '--mode', 'hmac', ...generous);
  bearer = await installation.token('acme', '--name', 'bearer', ...generous);
  const env = { TOLLKEEPER_REDIS_COMMAND_TIMEOUT_MS: '20000' };
  sidecars = await Promise.all([installation.sidecar({ env }), installation.sidecar({ env })]);
});

afterAll(() => installation.stop());

interface ToSign {
  readonly method?: string;
  readonly target?: string;
  readonly host?: string;
  readonly body?: string;
  /** In the order of the base; default: what is needed. */
  readonly components?: readonly string[];
  readonly created?: number | undefined;
  /** Further parameters, as they stand in the field. */
  readonly extra?: string;
  readonly nonce?: string;
  readonly keyId?: string;
  readonly secret?: string;
  readonly fields?: Readonly<Record<string, string>>;
}

const first = (): Sidecar => sidecars[0] as Sidecar;
const sha256 = (body: string): string => `sha-256=:${createHash('sha256').update(body).digest('base64')}:`;

/** The fields of a signed request, made by the letter of the RFC and by no code of ours. */
function sign(request: ToSign = {}): Record<string, string> {
  const { method = 'GET', target = path, body, fields = {}, nonce = randomBytes(9).toString('base64url') } = request;
  const host = request.host ?? `127.0.0.1:${first().dataPort}`;
  const needed = ['@method', '@target-uri', ...(body === undefined ? [] : ['content-digest'])];
  const components = request.components ?? needed;
  const sent: Record<string, string> = { ...(body === undefined ? {} : { 'content-digest': sha256(body) }), ...fields };
  const mark = target.indexOf('?');
  const derived: Record<string, string> = {
    '@method': method,
    '@target-uri': `http://${host}${target}`,
    '@authority': host,
    '@path': mark < 0 ? target : target.slice(0, mark),
    '@query': mark < 0 ? '?' : target.slice(mark),
  };
  const created = 'created' in request ? request.created : nowS();
  const parameters =
    `(${components.map((name) => `"${name}"`).join(' ')})` +
    (created === undefined ? '' : `;created=${created}`) +
    (request.keyId === '' ? '' : `;keyid="${request.keyId ?? signer.id}"`) +
    (nonce === '' ? '' : `;nonce="${nonce}"`) +
    (request.extra ?? '');
  const lines = components.map((name) => `"${name}": ${derived[name] ?? sent[name] ?? ''}`);
  const base = [...lines, `"@signature-params": ${parameters}`].join('\n');
  const mac = createHmac('sha256', request.secret ?? signer.secret)
    .update(base)
    .digest('base64');
  return { ...sent, 'signature-input': `sig1=${parameters}`, signature: `sig1=:${mac}:` };
}

function send(request: ToSign = {}, change: Record<string, string> = {}, at = first()): Promise<Answer> {
  const { method = 'GET', target = path, body } = request;
  return call(at.dataUrl + target, {
    method,
    headers: { ...sign(request), ...change },
    ...(body === undefined ? {} : { body }),
  });
}

/** The last character of 32 bytes in base64 has two bits that mean nothing. */
function withOtherSpareBits(end: string): string {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
  return `${alphabet[alphabet.indexOf(end[0] as string) ^ 1]}${end.slice(1)}`;
}

const refusal = async (answer: Promise<Answer>): Promise<[number, string, string]> => {
  const settled = await answer;
  return [settled.status, slugOf(settled), String(settled.json().detail)];
};

describe('a message signature', () => {
  test('of target, body, key, time and nonce is admitted; only the digest of the body goes on', async () => {
    expect((await send({ target: `${path}?b=2&a=%20` })).status).toBe(200);
    const before = installation.upstream.requests.length;
    const answer = await send({ method: 'POST', target: search, body: '{"q":"é"}' });
    expect(answer.status).toBe(200);
    const seen = installation.upstream.requests[before];
    expect(seen?.body.toString()).toBe('{"q":"é"}');
    expect(seen?.headers['x-tollkeeper-token-id']).toBe(signer.id);
    expect(seen?.headers['content-digest']).toBe(sha256('{"q":"é"}'));
    expect(Object.keys(seen?.headers ?? {}).filter((name) => name.startsWith('signature'))).toEqual([]);
  });

  test('may name path and query in place of the whole URI, and cover more fields than are asked for', async () => {
    const components = ['@method', '@path', '@query', '@authority', 'content-type'];
    expect((await send({ components, fields: { 'content-type': 'text/plain' } })).status).toBe(200);
    expect((await send({ target: `${path}?a=1`, components: ['@query', '@path', '@method'] })).status).toBe(200);
  });

  test('covers several lines of a field as one, joined by a comma', async () => {
    const port = first().dataPort;
    const headers = sign({ components: ['@method', '@target-uri', 'x-list'], fields: { 'x-list': 'a, b' } });
    const lines = Object.entries(headers).map(([name, value]) => (name === 'x-list' ? '' : `${name}: ${value}\r\n`));
    const head = `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nX-List: a\r\n${lines.join('')}x-list:  b \r\n\r\n`;
    expect((await rawExchange(port, head)).status).toBe(200);
  });

  test('may be 300 s old or early on the clock of Redis, and ends when it says so itself', async () => {
    expect((await send({ created: nowS() - 290 })).status).toBe(200);
    expect((await send({ created: nowS() + 290 })).status).toBe(200);
    expect((await send({ created: nowS() - 5, extra: `;expires=${nowS() + 60}` })).status).toBe(200);
    const stale = [401, 'stale-timestamp'];
    expect((await refusal(send({ created: nowS() - 310 }))).slice(0, 2)).toEqual(stale);
    expect((await refusal(send({ created: nowS() + 310 }))).slice(0, 2)).toEqual(stale);
    const ended = await refusal(send({ created: nowS() - 60, extra: `;expires=${nowS() - 1}` }));
    expect(ended).toEqual([...stale, expect.stringContaining('expires')]);
  });

  test('is refused when anything it covers was changed on the way', async () => {
    const wrong = [401, 'invalid-signature', 'The signature does not match this request.'];
    const headers = sign();
    expect(await refusal(call(`${first().dataUrl}${path}?x=1`, { headers }))).toEqual(wrong);
    expect(await refusal(send({}, { host: 'other.example.com' }))).toEqual(wrong);
    const changed = headers['signature-input']?.replace(/nonce="[^"]*"/, 'nonce="another"') as string;
    expect(await refusal(send({}, { 'signature-input': changed }))).toEqual(wrong);
    const before = installation.upstream.requests.length;
    const post = { method: 'POST', target: search, body: 'abc' };
    const other = call(first().dataUrl + search, { method: 'POST', headers: sign(post), body: 'abd' });
    expect(await refusal(other)).toEqual(wrong);
    const both = { ...sign(post), 'content-digest': sha256('abd') };
    expect(await refusal(call(first().dataUrl + search, { method: 'POST', headers: both, body: 'abd' }))).toEqual(
      wrong,
    );
    expect(installation.upstream.requests.length).toBe(before);
  });

  test('with a body over the limit is 413', async () => {
    const body = 'x'.repeat(1_048_577);
    const answer = await send({ method: 'POST', target: search, body }).catch(() => undefined);
    if (answer !== undefined) expect([answer.status, slugOf(answer)]).toEqual([413, 'body-too-large']);
  });

  test('of an unknown token, by a wrong secret and by a Bearer token are one answer', async () => {
    const gone = await installation.token('acme', '--name', 'gone', '--mode', 'hmac');
    await installation.command('token', 'delete', gone.id);
    const answers = await Promise.all([
      refusal(send({ keyId: gone.id, secret: gone.secret })),
      refusal(send({ secret: bearer.secret })),
      refusal(send({ keyId: bearer.id, secret: bearer.secret })),
    ]);
    expect(new Set(answers.map((answer) => answer.join(' '))).size).toBe(1);
    expect(answers[0]?.slice(0, 2)).toEqual([401, 'invalid-signature']);
  });
});

describe('a signature of less is 401 invalid-signature and says what is missing:', () => {
  const body = '{}';
  test.each<[string, ToSign, RegExp]>([
    ['the method', { components: ['@target-uri'] }, /@method/],
    ['the target', { components: ['@method', '@authority'] }, /@target-uri/],
    ['the query', { components: ['@method', '@path'] }, /@query/],
    ['the body', { method: 'POST', target: search, body, components: ['@method', '@target-uri'] }, /content-digest/],
    ['the time', { created: undefined }, /created/],
    ['the key', { keyId: '' }, /keyid/],
    [
      'the sha-256',
      { method: 'POST', target: search, body, fields: { 'content-digest': 'sha-512=:AAAA:' } },
      /sha-256/,
    ],
    ['a field that is covered', { components: ['@method', '@target-uri', 'x-absent'] }, /absent/],
    ['the right algorithm', { extra: ';alg="rsa-pss-sha512"' }, /hmac-sha256/],
  ])('%s', async (_, request, detail) => {
    expect(await refusal(send(request))).toEqual([401, 'invalid-signature', expect.stringMatching(detail)]);
  });

  test.each(['signature', 'signature-input'])('the field %s', async (name) => {
    const headers = sign();
    delete headers[name];
    const answer = await refusal(call(first().dataUrl + path, { headers }));
    expect(answer).toEqual([401, 'invalid-signature', expect.stringContaining('both')]);
  });
});

describe('one credential a request', () => {
  test('a message signature beside any other is 400 ambiguous-credentials', async () => {
    const ambiguous = [400, 'ambiguous-credentials'];
    const hmac = signRequest({ secret: signer.secret, method: 'GET', url: path }).headers;
    for (const other of [{ authorization: `Bearer ${bearer.secret}` }, hmac]) {
      expect((await refusal(send({}, other))).slice(0, 2)).toEqual(ambiguous);
    }
    const alone = call(first().dataUrl + path, { token: bearer.secret, headers: { signature: 'sig1=:AA==:' } });
    expect((await refusal(alone)).slice(0, 2)).toEqual(ambiguous);
  });

  test.each(['signature', 'signature-input'])('%s in two lines is 400', async (name) => {
    const headers = sign();
    const lines = Object.entries(headers).map(([field, value]) => `${field}: ${value}\r\n`);
    const port = first().dataPort;
    const request = `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n${lines.join('')}${name}: ${headers[name]}\r\n\r\n`;
    const answer = await rawExchange(port, request);
    expect([answer.status, JSON.parse(answer.body.toString()).type]).toEqual([
      400,
      'https://tollkeeper.dev/problems/malformed-request',
    ]);
  });

  test('with messageSignatures off both fields are the upstream’s, beside the one credential', async () => {
    const plain = await installation.sidecar({ env: { TOLLKEEPER_MESSAGE_SIGNATURES: 'false' } });
    const headers = sign();
    const before = installation.upstream.requests.length;
    expect((await call(plain.dataUrl + path, { token: bearer.secret, headers })).status).toBe(200);
    const seen = installation.upstream.requests[before]?.headers;
    expect([seen?.signature, seen?.['signature-input']]).toEqual([headers.signature, headers['signature-input']]);
    expect((await refusal(call(plain.dataUrl + path, { headers }))).slice(0, 2)).toEqual([401, 'missing-credentials']);
  });
});

describe('on the verify plane', () => {
  const host = 'api.example.com';
  const body = '{"a":1}';
  let verifying: Sidecar;

  beforeAll(async () => {
    const env = { TOLLKEEPER_TRUSTED_PROXIES: '127.0.0.1' };
    verifying = await installation.sidecar({ env, planes: ['data', 'admin', 'verify'] });
  });

  const ask = (headers: Record<string, string>): Promise<Answer> =>
    call(`${verifying.verifyUrl}/verify`, {
      headers: {
        'x-forwarded-method': 'POST',
        'x-forwarded-uri': search,
        'x-forwarded-host': host,
        'x-forwarded-proto': 'http',
        ...headers,
      },
    });

  test('the digest that is signed is passed on for the upstream to check', async () => {
    const answer = await ask(sign({ method: 'POST', target: search, host, body }));
    expect(answer.status).toBe(200);
    expect(answer.headers['x-tollkeeper-content-sha256']).toBe(createHash('sha256').update(body).digest('hex'));
  });

  test('a covered Host is the one the client asked for, not the one the proxy asks with', async () => {
    const components = ['@method', '@target-uri', 'host'];
    const { host: _, ...headers } = sign({ method: 'POST', target: search, host, components, fields: { host } });
    expect((await ask(headers)).status).toBe(200);
    const { host: __, ...others } = sign({ method: 'POST', target: search, host, components, fields: { host: 'x' } });
    expect((await refusal(ask(others))).slice(0, 2)).toEqual([401, 'invalid-signature']);
  });

  test('without content-digest the empty body is signed, and a digest that is not covered is refused', async () => {
    const components = ['@method', '@target-uri'];
    const answer = await ask(sign({ method: 'POST', target: search, host }));
    expect(answer.headers['x-tollkeeper-content-sha256']).toBe(createHash('sha256').update('').digest('hex'));
    const uncovered = ask(sign({ method: 'POST', target: search, host, body, components }));
    expect((await refusal(uncovered)).slice(0, 2)).toEqual([401, 'invalid-signature']);
    const other = ask({ ...sign({ method: 'POST', target: search, host, body }), 'content-digest': sha256('{}') });
    expect((await refusal(other)).slice(0, 2)).toEqual([401, 'invalid-signature']);
  });
});

describe('a replay', () => {
  const replayed = [401, 'replayed-request'];
  const host = 'api.example.com';

  test('is refused on every sidecar; another nonce makes the same request a new one', async () => {
    const headers = { ...sign({ host }), host };
    const answers = await Promise.all(sidecars.map(({ dataUrl }) => call(dataUrl + path, { headers })));
    expect(answers.map(({ status }) => status).sort((a, b) => a - b)).toEqual([200, 401]);
    expect(answers.filter(({ status }) => status === 401).map(slugOf)).toEqual(['replayed-request']);
    expect((await send({ nonce: 'one' })).status).toBe(200);
    expect((await send({ nonce: 'two' })).status).toBe(200);
  });

  test('is refused in every other spelling of the same signature', async () => {
    const request = { components: ['@method', '@path', '@query'] };
    const headers = sign(request);
    expect((await call(first().dataUrl + path, { headers })).status).toBe(200);
    const input = headers['signature-input'] as string;
    const signature = headers.signature as string;
    const spellings: [string, string, string][] = [
      [path, input, signature],
      [path, input.replace('sig1=', 'other='), signature.replace('sig1=', 'other=')],
      [path, input.replace('" "', '"   "').replace(';', '; '), signature],
      [path, input, signature.replace(/=:$/, ':')], // base64 without its padding
      [path, input, signature.replace(/.=:$/, withOtherSpareBits)],
      [`${path}?`, input, signature], // @path and @query cannot tell it apart
    ];
    for (const [target, signatureInput, bytes] of spellings) {
      const again = { 'signature-input': signatureInput, signature: bytes };
      const answer = call(sidecars[1]?.dataUrl + target, { headers: again });
      expect([signatureInput, bytes, ...(await refusal(answer)).slice(0, 2)]).toEqual([
        signatureInput,
        bytes,
        ...replayed,
      ]);
    }
  });

  test('sent to two sidecars at once, 100 times: exactly one is admitted, each time', async () => {
    const outcomes = new Map<string, number>();
    for (let round = 0; round < 100; round++) {
      const headers = { ...sign({ host }), host };
      const answers = await Promise.all(sidecars.map(({ dataUrl }) => call(dataUrl + path, { headers })));
      const outcome = answers
        .map(({ status }) => status)
        .sort((a, b) => a - b)
        .join(' ');
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
    }
    expect([...outcomes]).toEqual([['200 401', 100]]);
  });
});
