/** The upstream's answer on its way to the client: what goes through unchanged, what becomes a refusal, what is cut. */
import type { Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type ProxyRig, startProxyRig } from '../support/proxy-rig.js';
import { type RawResult, headerOf, headersOf, rawExchange } from '../support/raw-client.js';

let rig: ProxyRig;

beforeAll(async () => {
  rig = await startProxyRig({ TOLLKEEPER_UPSTREAM_TIMEOUT_MS: '20000', TOLLKEEPER_UPSTREAM_IDLE_TIMEOUT_MS: '20000' });
});

afterAll(() => rig.stop());

/** Status and problem slug. */
function refusal({ status, body }: RawResult): [number, string] {
  const { type } = JSON.parse(body.toString()) as { type: string };
  return [status, type.replace('https://tollkeeper.dev/problems/', '')];
}

const ok = (lines: string[], body: string): string => ['HTTP/1.1 200 OK', ...lines, '', body].join('\r\n');

describe('an answer goes to the client unchanged', () => {
  test('with its length, its reason to be, and byte for byte its body', async () => {
    const body = Buffer.from(Array.from({ length: 70_000 }, (_, at) => (at * 7) % 256));
    const head = Buffer.from(
      'HTTP/1.1 207 Multi-Status\r\nContent-Type: text/x\r\nETag: "a,b"\r\nContent-Length: 70000\r\n\r\n',
    );
    const path = rig.script('whole', Buffer.concat([head, body]));
    const answer = await rig.exchange('GET', path);
    expect(answer.head.split('\r\n')[0]).toBe('HTTP/1.1 207 Multi-Status');
    expect(headerOf(answer.head, 'Content-Length')).toBe('70000');
    expect(headerOf(answer.head, 'Transfer-Encoding')).toBeUndefined();
    expect(headerOf(answer.head, 'ETag')).toBe('"a,b"');
    expect(answer.body.equals(body)).toBe(true);
    expect(answer.closed).toBe(false);
  });

  test('when it comes in chunks, also split at every byte, with extensions and trailers', async () => {
    const bytes = ok(['Transfer-Encoding: chunked'], '5;a=b\r\nhello\r\n6\r\n world\r\n0\r\nX-Trailer: 1\r\n\r\n');
    const path = rig.script('chunked', (_, socket) => {
      const send = (at: number): void => {
        if (at < bytes.length) socket.write(bytes.charAt(at), () => setImmediate(send, at + 1));
      };
      send(0);
      return undefined;
    });
    const answer = await rig.exchange('GET', path, { lingerMs: 50 });
    expect(answer.body.toString()).toBe('hello world');
    expect(answer.raw.toString()).not.toContain('X-Trailer');
    expect(answer.rest).toHaveLength(0);
  });

  test('chunk by chunk: what has come is not held back for what has not', async () => {
    const sockets: Socket[] = [];
    const path = rig.script('drip', (_, socket) => {
      sockets.push(socket);
      return 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n';
    });
    const connection = await rig.connect();
    connection.send(rig.request('GET', path));
    await connection.bytes((bytes) => bytes.includes('first'));
    sockets[0]?.write('6\r\nsecond\r\n');
    await connection.bytes((bytes) => bytes.includes('second'));
    sockets[0]?.write('0\r\n\r\n');
    const answer = await connection.answer();
    expect(headersOf(answer.head, 'Transfer-Encoding')).toEqual(['chunked']);
    expect(answer.body.toString()).toBe('firstsecond');
    connection.close();
  });

  test('when it ends with its connection, also from HTTP/1.0', async () => {
    for (const version of ['1.0', '1.1']) {
      const path = rig.script(`until-close-${version}`, (_, socket) => {
        socket.end(`HTTP/${version} 200 OK\r\nX-Old: yes\r\n\r\nall there is`);
        return undefined;
      });
      const answer = await rig.exchange('GET', path);
      expect([answer.status, answer.body.toString()]).toEqual([200, 'all there is']);
    }
  });

  test('when its head comes long before its body: the head does not wait', async () => {
    const finish: (() => void)[] = [];
    const path = rig.script('slow-body', (_, socket) => {
      socket.write(ok(['Content-Length: 4', 'X-Early: yes'], ''));
      finish.push(() => socket.write('done'));
      return undefined;
    });
    const connection = await rig.connect();
    connection.send(rig.request('GET', path));
    const head = await connection.bytes((bytes) => bytes.includes('\r\n\r\n'));
    expect(head.toString()).toMatch(/x-early: yes/i);
    finish[0]?.();
    expect((await connection.answer()).body.toString()).toBe('done');
    connection.close();
  });

  test('with every Set-Cookie in a line of its own and in order', async () => {
    const cookies = ['a=1; Path=/', 'b=2; Expires=Wed, 21 Oct 2099 07:28:00 GMT', 'a=3'];
    const lines = cookies.map((cookie) => `Set-Cookie: ${cookie}`);
    const path = rig.script('cookies', ok([...lines, 'Content-Length: 0'], ''));
    expect(headersOf((await rig.exchange('GET', path)).head, 'Set-Cookie')).toEqual(cookies);
  });

  test('with bytes above ASCII in header values, as they are', async () => {
    const value = '\xe4\x80\xff\xc3\xa9';
    const path = rig.script(
      'latin1',
      Buffer.from(ok([`X-Name: ${value}`, 'X-Empty:', 'Content-Length: 0'], ''), 'latin1'),
    );
    const { head } = await rig.exchange('GET', path);
    expect(headerOf(head, 'X-Name')).toBe(value);
    expect(headerOf(head, 'X-Empty')).toBe('');
  });

  test('without hop-by-hop fields and those that Connection names', async () => {
    const lines = [
      'Connection: X-Internal, keep-alive',
      'CONNECTION: x-other',
      'Keep-Alive: timeout=5',
      'Proxy-Authenticate: Basic',
      'Upgrade: h2c',
      'Trailer: X-T',
      'X-Internal: secret',
      'x-other: secret',
      'X-Kept: yes',
      'Content-Length: 2',
    ];
    const { head } = await rig.exchange('GET', rig.script('hops', ok(lines, 'ok')));
    expect(head).not.toMatch(/secret|proxy-auth|keep-alive|upgrade|trailer|^connection/im);
    expect(headerOf(head, 'X-Kept')).toBe('yes');
    expect(headerOf(head, 'Content-Length')).toBe('2');
  });

  test('with one Date, one X-Request-Id and nothing of the HTTP binding', async () => {
    const lines = ['Date: Mon, 01 Jan 2024 00:00:00 GMT', 'X-Request-Id: of-the-upstream', 'Content-Length: 0'];
    const { head } = await rig.exchange('GET', rig.script('names', ok(lines, '')), { lines: ['X-Request-Id: mine-7'] });
    expect(headersOf(head, 'Date')).toHaveLength(1);
    expect(headersOf(head, 'X-Request-Id')).toEqual(['mine-7']);
    expect(head).not.toMatch(/uwebsockets/i);
  });

  test('with a status nobody has heard of', async () => {
    const answer = await rig.exchange('GET', rig.script('odd', 'HTTP/1.1 599 Odd\r\nContent-Length: 1\r\n\r\nx'));
    expect([answer.head.split('\r\n')[0], answer.body.toString()]).toEqual(['HTTP/1.1 599 ', 'x']);
  });
});

describe('an answer without a body', () => {
  test.each([
    ['HEAD', 'HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n', '1234'],
    ['HEAD', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n', undefined],
    ['GET', 'HTTP/1.1 204 No Content\r\n\r\n', undefined],
    ['GET', 'HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n', undefined],
    ['GET', 'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 1234\r\n\r\n', '1234'],
    ['GET', 'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n', undefined],
  ])('to %s %j ends with its head, and the connection goes on', async (method, bytes, length) => {
    const path = rig.script('bodiless', bytes);
    const connection = await rig.connect();
    for (let time = 0; time < 2; time++) {
      connection.send(rig.request(method, path));
      const answer = await connection.answer(method);
      expect(answer.status).toBe(Number(bytes.slice(9, 12)));
      expect(headerOf(answer.head, 'Content-Length')).toBe(length);
      expect(headerOf(answer.head, 'Transfer-Encoding')).toBeUndefined();
    }
    connection.close();
  });

  test('to HEAD has the length of the refusal that GET would get, also when the connection closes', async () => {
    for (const line of ['X-Ok: 1', 'Host: other.test']) {
      const [head, get] = await Promise.all([
        rig.exchange('HEAD', '/secrets/a', { lines: [line], lingerMs: 50 }),
        rig.exchange('GET', '/secrets/a', { lines: [line] }),
      ]);
      expect(head.status).toBe(get.status);
      expect(Number(headerOf(head.head, 'Content-Length'))).toBeGreaterThan(100);
      expect(head.rest).toHaveLength(0);
    }
  });

  test.each([
    ['Early Hints', '103 Early Hints\r\nLink: </a>'],
    // RFC 9110 section 15.2: a client must be able to parse those that it does not expect.
    ['a Continue nobody asked for', '100 Continue'],
  ])('is not an interim one: %s is left out', async (_, interim) => {
    const bytes = `HTTP/1.1 ${interim}\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok`;
    const answer = await rig.exchange('GET', rig.script('hints', bytes));
    expect(answer.responses.map(({ status }) => status)).toEqual([200]);
    expect(answer.body.toString()).toBe('ok');
  });
});

describe('an answer that is not valid HTTP is 502 upstream-invalid-response:', () => {
  test.each([
    ['bytes that are no head', '\0\x01garbage\r\n\r\n'],
    ['HTTP/0.9', 'hello\r\n'],
    ['a status that is no number', 'HTTP/1.1 abc OK\r\n\r\n'],
    ['a status of four digits', 'HTTP/1.1 1000 OK\r\nContent-Length: 0\r\n\r\n'],
    ['a status below 100', 'HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n'],
    ['a switch of protocols', 'HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n'],
    [
      'interim answers without end',
      `${'HTTP/1.1 102 Processing\r\n\r\n'.repeat(40)}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok`,
    ],
    ['length and chunks', ok(['Content-Length: 5', 'Transfer-Encoding: chunked'], '0\r\n\r\n')],
    ['two lengths', ok(['Content-Length: 5', 'Content-Length: 6'], 'hello')],
    ['a negative length', ok(['Content-Length: -5'], 'hello')],
    ['an empty length', ok(['Content-Length:'], 'hello')],
    ['a coding that would have to be undone', ok(['Transfer-Encoding: gzip, chunked'], '0\r\n\r\n')],
    ['chunked twice', ok(['Transfer-Encoding: chunked', 'Transfer-Encoding: chunked'], '0\r\n\r\n')],
    ['a lone carriage return in a value', ok(['X-F: a\rSet-Cookie: evil=1', 'Content-Length: 0'], '')],
    ['a lone line feed', ok(['X-F: a\nSet-Cookie: evil=1', 'Content-Length: 0'], '')],
    ['a folded line', ok(['X-F: a\r\n b', 'Content-Length: 0'], '')],
    ['a null byte in a value', ok(['X-F: a\0b', 'Content-Length: 0'], '')],
    ['a name with a space', ok(['X F: a', 'Content-Length: 0'], '')],
    ['an empty name', ok([': a', 'Content-Length: 0'], '')],
    ['200 KB of one header', ok([`X-Big: ${'a'.repeat(200_000)}`, 'Content-Length: 0'], '')],
    [
      '200 KB of many headers',
      ok(
        Array.from({ length: 6000 }, (_, at) => `X-${at}: ${'a'.repeat(28)}`),
        '',
      ),
    ],
  ])('%s', async (name, bytes) => {
    const path = rig.script('invalid', Buffer.from(bytes, 'latin1'));
    const before = rig.seen(path).length;
    const answer = await rig.exchange('GET', path, { lines: [`X-Request-Id: ${name.replace(/[^a-z0-9]/gi, '-')}`] });
    expect(refusal(answer)).toEqual([502, 'upstream-invalid-response']);
    expect(answer.head).not.toContain('evil');
    // An answer came: the upstream has acted, and is not asked twice.
    expect(rig.seen(path)).toHaveLength(before + 1);
  });

  test('what follows a whole answer is not taken for the answer to the next request', async () => {
    const poison = 'HTTP/1.1 200 OK\r\nX-Poison: 1\r\nContent-Length: 6\r\n\r\npoison';
    const path = rig.script('poison', `${ok(['Content-Length: 2'], 'ok')}${poison}`);
    const connection = await rig.connect();
    for (let time = 0; time < 5; time++) {
      for (const name of [path, '/files/good']) {
        connection.send(rig.request('GET', name));
        expect((await connection.answer()).body.toString()).toBe('ok');
      }
    }
    connection.close();
  });
});

describe('an answer that breaks off', () => {
  test.each([
    ['FIN', (socket: { end(): void }) => socket.end()],
    ['RST', (socket: { resetAndDestroy(): void }) => socket.resetAndDestroy()],
  ])('before its head by %s is 502 upstream-unreachable', async (_, cut) => {
    const path = rig.script('no-head', (_request, socket) => {
      cut(socket);
      return undefined;
    });
    expect(refusal(await rig.exchange('GET', path))).toEqual([502, 'upstream-unreachable']);
    expect(refusal(await rig.exchange('POST', path, { lines: ['Content-Length: 0'] }))).toEqual([
      502,
      'upstream-unreachable',
    ]);
  });

  const heads = {
    'with a length': 'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhello',
    'in chunks': 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n',
    'in chunks that close': 'HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n',
    'amid a chunk': 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\nhello',
  };
  const cuts = Object.entries(heads).flatMap(([kind, bytes]) => [
    [kind, 'FIN', bytes] as const,
    [kind, 'RST', bytes] as const,
  ]);
  test.each([...cuts, ['until its connection ends', 'RST', 'HTTP/1.1 200 OK\r\n\r\nhello'] as const])(
    'amid its body %s by %s reaches the client as a cut, never as an end',
    async (kind, how, bytes) => {
      const id = `cut-${kind}-${how}`.replaceAll(' ', '-');
      const path = rig.script('cut', (_, socket) => {
        socket.write(bytes, () => setTimeout(() => (how === 'FIN' ? socket.end() : socket.resetAndDestroy()), 30));
        return undefined;
      });
      const answer = await rig.exchange('GET', path, { lines: [`X-Request-Id: ${id}`] });
      expect(answer.closed).toBe(true);
      expect(answer.responses).toHaveLength(0); // none that is whole
      expect(answer.rest.toString()).toContain('hello');
      expect(await rig.logged(id)).toMatchObject({ status: '200', outcome: 'upstream-invalid-response' });
    },
  );
});

describe('a silent upstream', () => {
  test('is 504 upstream-timeout within the timeout, and its request is cancelled', async () => {
    const impatient = await rig.another({ TOLLKEEPER_UPSTREAM_TIMEOUT_MS: '1000' });
    let gone: Promise<void> | undefined;
    const path = rig.script('silent', (_, socket) => {
      gone = new Promise((resolve) => {
        socket.once('close', () => resolve());
      });
      return undefined;
    });
    const startedAtMs = performance.now();
    const answer = await rawExchange(impatient.dataPort, rig.request('GET', path, ['X-Request-Id: silent-1']));
    expect(refusal(answer)).toEqual([504, 'upstream-timeout']);
    expect(performance.now() - startedAtMs).toBeGreaterThan(900);
    await gone;
    expect(answer.closed).toBe(false);
    const entry = await rig.logged('silent-1');
    expect(entry).toMatchObject({ status: '504', outcome: 'upstream-timeout' });
    expect(Number(entry.upstreamMs)).toBeGreaterThan(900);
    await impatient.stop();
  });

  test('amid a body is cut after the idle timeout', async () => {
    const path = rig.script('stuck', (_, socket) => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhello');
      return undefined;
    });
    const impatient = await rig.another({ TOLLKEEPER_UPSTREAM_IDLE_TIMEOUT_MS: '1000' });
    const answer = await rawExchange(impatient.dataPort, rig.request('GET', path, ['X-Request-Id: stuck-1']));
    expect([answer.closed, answer.responses.length, answer.rest.includes('hello')]).toEqual([true, 0, true]);
    expect(await rig.logged('stuck-1')).toMatchObject({ outcome: 'upstream-timeout' });
    await impatient.stop();
  });
});
