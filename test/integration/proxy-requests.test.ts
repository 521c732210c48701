/** The client's request on its way to the upstream: what arrives, what a trusted proxy may say, how large it may be. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type ProxyRig, startProxyRig } from '../support/proxy-rig.js';
import { type RawResponse, decodeChunked, headerOf, headersOf, rawExchange } from '../support/raw-client.js';
import { openConnection, type RawConnection } from '../support/raw-connection.js';
import type { Sidecar } from '../support/sidecar.js';

let rig: ProxyRig;
/** Believes 127.0.0.1 and accepts bodies of at most 100,000 bytes. */
let behindProxy: Sidecar;

beforeAll(async () => {
  rig = await startProxyRig();
  behindProxy = await rig.another({
    TOLLKEEPER_TRUSTED_PROXIES: '127.0.0.1',
    TOLLKEEPER_BODY_MAX_BYTES: '100000',
  });
});

afterAll(() => rig.stop());

function slug({ body }: RawResponse): string {
  return (JSON.parse(body.toString()) as { type: string }).type.replace(/^.*\//, '');
}

const headOf = (request: string): string => request.slice(0, request.indexOf('\r\n\r\n'));
const bodyOf = (request: string): string => request.slice(request.indexOf('\r\n\r\n') + 4);

/** The last request that the upstream got for a path; it has been answered, so it is there. */
function lastSeen(path: string): string {
  return rig.seen(path).at(-1) ?? '';
}

describe('the upstream gets', () => {
  test('method, target and end-to-end fields as sent, in their order, and only our claims about the client', async () => {
    const target = '/files/a%20b?q=%C3%A9&x&y=1%2F2';
    const lines = [
      'Accept: a/b',
      'Accept: c/d',
      'Cookie: s=1; t=2',
      'If-None-Match: "etag"',
      'X-Custom:   padded value  ',
      'Content-Type: application/json',
      'X-Tollkeeper-Scopes: everything',
      'X_Tollkeeper_Scopes: everything',
      'X-Forwarded-For: 1.2.3.4',
      'X-Forwarded-Proto: https',
      'Forwarded: for=1.2.3.4',
      'X-Real-IP: 1.2.3.4',
      'Connection: keep-alive, X-Hop',
      'X-Hop: only here',
      'Keep-Alive: timeout=5',
      'TE: trailers',
      'Upgrade: websocket',
      'Content-Length: 2',
    ];
    expect((await rawExchange(rig.sidecar.dataPort, rig.request('PATCH', target, lines, 'hi'))).status).toBe(200);
    const seen = lastSeen(target);
    expect(seen.split('\r\n')[0]).toBe(`PATCH ${target} HTTP/1.1`);
    expect(bodyOf(seen)).toBe('hi');
    const head = headOf(seen);
    expect(headersOf(head, 'Accept')).toEqual(['a/b', 'c/d']);
    expect(headerOf(head, 'X-Custom')).toBe('padded value');
    expect(headersOf(head, 'Host')).toEqual(['store.test']);
    expect(headersOf(head, 'Content-Length')).toEqual(['2']);
    expect(headersOf(head, 'X-Forwarded-For')).toEqual(['127.0.0.1']);
    expect(headersOf(head, 'X-Forwarded-Proto')).toEqual(['http']);
    expect(headersOf(head, 'X-Forwarded-Host')).toEqual(['store.test']);
    expect(headersOf(head, 'X-Tollkeeper-Scopes')).toEqual(['files']);
    expect(head).not.toMatch(/authorization|everything|1\.2\.3\.4|only here|timeout=5|trailers|upgrade|websocket/i);
    expect(head).not.toContain(rig.token.secret);
    const order = ['accept', 'cookie', 'if-none-match', 'x-custom', 'content-type'].map((name) =>
      head.toLowerCase().indexOf(`\r\n${name}:`),
    );
    expect(order).toEqual(order.toSorted((a, b) => a - b));
  });

  test('a bare question mark, and none where there was none', async () => {
    for (const target of ['/files/q?', '/files/q', '/files/q??x=1']) {
      await rig.exchange('GET', target);
      expect(lastSeen(target).split('\r\n')[0]).toBe(`GET ${target} HTTP/1.1`);
    }
  });

  test('no identity and no credential on a public route, even when a token was sent', async () => {
    await rig.exchange('GET', '/open/a', { lines: ['X-Tollkeeper-Tenant: acme'] });
    const head = headOf(lastSeen('/open/a'));
    expect(head).not.toMatch(/x-tollkeeper|authorization/i);
    expect(headerOf(head, 'X-Request-Id')).toBeDefined();
  });

  test('the request id that the client got: its own when that is sane, else a new one', async () => {
    for (const [sent, isKept] of [
      ['abc-123_X.y', true],
      ['with space', false],
      ['x'.repeat(1000), false],
      ['', false],
    ] as const) {
      const { head } = await rig.exchange('GET', '/files/id', { lines: [`X-Request-Id: ${sent}`] });
      const id = headerOf(head, 'X-Request-Id') ?? '';
      expect(id === sent).toBe(isKept);
      expect(id).toMatch(/^[\w.-]{8,}$/);
      expect(headersOf(headOf(lastSeen('/files/id')), 'X-Request-Id')).toEqual([id]);
    }
  });

  test('a GET with a body, a DELETE with a body and a POST without one, each framed as sent', async () => {
    for (const method of ['GET', 'DELETE', 'PUT']) {
      const bytes = rig.request(method, '/files/body', ['Content-Length: 5'], 'hello');
      expect((await rawExchange(rig.sidecar.dataPort, bytes)).status).toBe(200);
      expect(bodyOf(lastSeen('/files/body'))).toBe('hello');
    }
    expect((await rig.exchange('POST', '/files/none')).status).toBe(200);
    expect(headersOf(headOf(lastSeen('/files/none')), 'Content-Length')).toEqual(['0']);
    expect((await rig.exchange('POST', '/files/none', { lines: ['Content-Length: 0'] })).status).toBe(200);
    expect(headersOf(headOf(lastSeen('/files/none')), 'Content-Length')).toEqual(['0']);
  });

  test('a body that is sent after 100 Continue; the expectation itself ends here', async () => {
    const connection = await openConnection(rig.sidecar.dataPort);
    connection.send(rig.request('PUT', '/files/expect', ['Content-Length: 5', 'Expect: 100-continue']));
    await connection.bytes((bytes) => bytes.toString('latin1').startsWith('HTTP/1.1 100 '));
    connection.send('hello');
    expect((await connection.answer()).status).toBe(200);
    expect(headOf(lastSeen('/files/expect'))).not.toMatch(/expect:/i);
    expect(bodyOf(lastSeen('/files/expect'))).toBe('hello');
    connection.close();
  });
});

describe('peers', () => {
  test("each request is told as its own peer's, on connections opened before others came and after they left", async () => {
    const alone = await rig.another({ TOLLKEEPER_TRUSTED_PROXIES: '127.0.0.1' });
    const claim = 'X-Forwarded-For: 203.0.113.9';
    const hops = async (connection: RawConnection, path: string): Promise<string[]> => {
      connection.send(rig.request('GET', path, [claim]));
      expect((await connection.answer()).status).toBe(200);
      return headersOf(headOf(lastSeen(path)), 'X-Forwarded-For');
    };
    const proxy = await openConnection(alone.dataPort);
    expect(await hops(proxy, '/files/peer-1')).toEqual(['203.0.113.9, 127.0.0.1']);
    const other = await openConnection(alone.dataPort, undefined, '127.0.0.2');
    expect(await hops(other, '/files/peer-2')).toEqual(['127.0.0.2']);
    expect(await hops(proxy, '/files/peer-3')).toEqual(['203.0.113.9, 127.0.0.1']);
    proxy.close();
    const later = await openConnection(alone.dataPort);
    expect(await hops(later, '/files/peer-4')).toEqual(['203.0.113.9, 127.0.0.1']);
    expect(await hops(other, '/files/peer-5')).toEqual(['127.0.0.2']);
    for (const connection of [other, later]) connection.close();
  });
});

describe('behind a trusted proxy', () => {
  const send = (lines: string[], path = '/files/p'): ReturnType<typeof rawExchange> =>
    rawExchange(behindProxy.dataPort, rig.request('GET', path, lines));

  test('X-Forwarded-* is believed: address, scheme and host go on, the chain grows by the proxy', async () => {
    await send([
      'X-Forwarded-For: 203.0.113.9, 198.51.100.7',
      'X-Forwarded-Proto: https',
      'X-Forwarded-Host: shop.test',
      'X-Request-Id: believed-1',
    ]);
    const head = headOf(lastSeen('/files/p'));
    expect(headersOf(head, 'X-Forwarded-For')).toEqual(['203.0.113.9, 198.51.100.7, 127.0.0.1']);
    expect(headersOf(head, 'X-Forwarded-Proto')).toEqual(['https']);
    expect(headersOf(head, 'X-Forwarded-Host')).toEqual(['shop.test']);
    expect(headersOf(head, 'Host')).toEqual(['store.test']);
    expect(await rig.logged('believed-1')).toMatchObject({ ip: '198.51.100.7' });
  });

  test('what is said twice is not believed', async () => {
    await send([
      'X-Forwarded-Proto: https',
      'X-Forwarded-Proto: http',
      'X-Forwarded-Host: a.test',
      'X-Forwarded-Host: b.test',
    ]);
    const head = headOf(lastSeen('/files/p'));
    expect(headersOf(head, 'X-Forwarded-Proto')).toEqual(['http']);
    expect(headersOf(head, 'X-Forwarded-Host')).toEqual(['store.test']);
  });

  test.each([1, 100, 5000])('a chunked body in chunks of %i bytes arrives byte for byte', async (size) => {
    const body = Buffer.from(Array.from({ length: 50_000 }, (_, at) => (at * 13) % 256)).subarray(0, size * 400);
    const connection = await openConnection(behindProxy.dataPort);
    connection.send(rig.request('PUT', '/files/chunks', ['Transfer-Encoding: chunked']));
    for (let at = 0; at < body.length; at += size) {
      const chunk = body.subarray(at, at + size);
      connection.send(Buffer.concat([Buffer.from(`${chunk.length.toString(16)}\r\n`), chunk, Buffer.from('\r\n')]));
    }
    connection.send('0\r\n\r\n');
    expect((await connection.answer()).status).toBe(200);
    const seen = Buffer.from(lastSeen('/files/chunks'), 'latin1');
    const start = seen.indexOf('\r\n\r\n') + 4;
    const isChunked = headerOf(headOf(seen.toString('latin1')), 'Transfer-Encoding') === 'chunked';
    const arrived = isChunked ? decodeChunked(seen, start)?.body : seen.subarray(start);
    expect(arrived?.equals(body)).toBe(true);
    // The connection is in step: the next request is understood.
    connection.send(rig.request('GET', '/files/next'));
    expect((await connection.answer()).status).toBe(200);
    connection.close();
  });

  test('an empty chunked body is an empty body', async () => {
    const bytes = rig.request('POST', '/files/empty', ['Transfer-Encoding: chunked'], '0\r\n\r\n');
    expect((await rawExchange(behindProxy.dataPort, bytes)).status).toBe(200);
    expect(bodyOf(lastSeen('/files/empty'))).toBe('');
  });

  test('any other transfer coding is 411 all the same', async () => {
    for (const coding of ['gzip, chunked', 'identity', 'chunked, chunked', 'xchunked']) {
      const bytes = rig.request('POST', '/files/coded', [`Transfer-Encoding: ${coding}`], '0\r\n\r\n');
      const answer = await rawExchange(behindProxy.dataPort, bytes);
      expect([answer.status, slug(answer)]).toEqual([411, 'length-required']);
    }
    expect(rig.seen('/files/coded')).toHaveLength(0);
  });
});

describe('a body over bodyMaxBytes', () => {
  test('is 413 from its declared length alone, and the connection closes', async () => {
    const connection = await openConnection(behindProxy.dataPort);
    connection.send(rig.request('PUT', '/files/large', ['Content-Length: 100001']));
    const answer = await connection.answer();
    expect([answer.status, slug(answer), headerOf(answer.head, 'Connection')]).toEqual([
      413,
      'body-too-large',
      'close',
    ]);
    await connection.ended();
    expect(rig.seen('/files/large')).toHaveLength(0);
  });

  test('is accepted at exactly the limit', async () => {
    const bytes = rig.request('PUT', '/files/exact', ['Content-Length: 100000'], 'x'.repeat(100_000));
    expect((await rawExchange(behindProxy.dataPort, bytes)).status).toBe(200);
    expect(bodyOf(lastSeen('/files/exact'))).toHaveLength(100_000);
  });

  test.each(['in one piece', 'in many'])(
    'is counted as it comes (%s) where it is chunked: 413, close, cancelled',
    async (how) => {
      const id = `too-large-${how.replaceAll(' ', '-')}`;
      // Not a byte more than it takes: the reset that answers what is sent to a closed connection could overtake the 413.
      const last = 100_001 % 0x2000;
      const chunks = Array.from({ length: 12 }, () => `2000\r\n${'x'.repeat(0x2000)}\r\n`);
      chunks.push(`${last.toString(16)}\r\n${'x'.repeat(last)}`);
      const connection = await openConnection(behindProxy.dataPort);
      connection.send(rig.request('PUT', '/files/grown', ['Transfer-Encoding: chunked', `X-Request-Id: ${id}`]));
      for (const piece of how === 'in one piece' ? [chunks.join('')] : chunks) connection.send(piece);
      const answer = await connection.answer();
      expect([answer.status, slug(answer), headerOf(answer.head, 'Connection')]).toEqual([
        413,
        'body-too-large',
        'close',
      ]);
      await connection.ended();
      // The upstream never got a whole request.
      expect(rig.seen('/files/grown')).toHaveLength(0);
      expect(await rig.logged(id)).toMatchObject({ status: '413', outcome: 'body-too-large' });
    },
  );
});
