import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { keys } from '../../src/redis/keys.js';
import type { Operations } from '../../src/management/operations.js';
import { adminKey } from '../support/admin-api.js';
import { type AdminRig, Browser, password, populate, startAdminRig } from '../support/admin-rig.js';
import { openManagement, operator } from '../support/management.js';
import { type RedisServer, startRedis } from '../support/redis.js';

let rig: AdminRig;

beforeEach(async () => {
  rig = await startAdminRig();
  await populate(rig);
});
afterEach(() => rig.stop());

function slugOf({ json }: { readonly json: Record<string, unknown> }): string {
  return String(json.type).replace('https://tollkeeper.dev/problems/', '');
}

/** What Redis holds, as text. */
async function everything(): Promise<string> {
  const { redis } = rig.management.store;
  const dump: string[] = [];
  for (const key of await (redis as { keys(pattern: string): Promise<string[]> }).keys('*')) {
    dump.push(key, (await redis.dumpBuffer(key))?.toString('latin1') ?? '');
  }
  return dump.join('\n');
}

/** As if the user's login had been so long ago. */
async function loginWas(user: string, agoMs: number): Promise<void> {
  const { redis } = rig.management.store;
  const [digest = ''] = await redis.zrange(keys.userSessions(user), 0, '-1');
  const session = JSON.parse((await redis.get(keys.session(digest))) as string) as { createdAt: number };
  const older = { ...session, createdAt: session.createdAt - agoMs };
  await redis.set(keys.session(digest), JSON.stringify(older), 'KEEPTTL');
}

describe('a login', () => {
  test('opens a session in a cookie that scripts and other sites cannot have, and Redis does not know its id', async () => {
    const browser = new Browser(rig);
    const answer = await browser.login('ann');
    expect([answer.status, answer.json.user]).toMatchObject([200, { name: 'ann', role: 'owner', tenant: 'acme' }]);
    const [set = ''] = answer.headers.getSetCookie();
    expect(set).toMatch(/^tollkeeper_session=[\w-]{43}; Path=\/; HttpOnly; SameSite=Strict$/);
    expect((await browser.ask('/v1/me')).json).toMatchObject({ kind: 'session', name: 'ann', tenant: 'acme' });
    const id = browser.cookie.split('=')[1] as string;
    const kept = await everything();
    expect(kept).not.toContain(id);
    expect(kept).not.toContain(password);
    expect(rig.logged.join('')).not.toContain(id);
    const { data } = (await browser.ask('/v1/me/sessions')).json as { data: { current: boolean; address: string }[] };
    expect(data).toMatchObject([{ current: true, address: '198.51.100.1' }]);
  });

  test('behind HTTPS the cookie is Secure and bound to the host, and a plain one is not taken', async () => {
    const browser = new Browser(rig);
    const https = { 'x-forwarded-proto': 'https' };
    const [set = ''] = (await browser.login('ann', password, https)).headers.getSetCookie();
    expect(set).toMatch(/^__Host-tollkeeper_session=[\w-]{43}; Path=\/; HttpOnly; Secure; SameSite=Strict$/);
    expect((await browser.ask('/v1/me', { headers: https })).status).toBe(200);
    const plain = { cookie: browser.cookie.replace('__Host-', '') };
    expect((await browser.ask('/v1/me', { headers: { ...https, ...plain } })).status).toBe(401);
  });

  test('takes another id every time and ends the session that the browser had', async () => {
    const browser = new Browser(rig);
    await browser.login('ann');
    const first = browser.cookie;
    await browser.login('ann');
    expect(browser.cookie).not.toBe(first);
    expect((await browser.ask('/v1/me', { headers: { cookie: first } })).status).toBe(401);
    expect((await browser.ask('/v1/me')).status).toBe(200);
  });

  test('never takes a session id that somebody else chose', async () => {
    const browser = new Browser(rig);
    browser.cookie = `tollkeeper_session=${'A'.repeat(43)}`;
    await browser.login('ann');
    expect(browser.cookie).not.toContain('A'.repeat(43));
  });

  test('says the same of a wrong password and of an account that does not exist', async () => {
    const said = await Promise.all(
      [
        ['ann', 'wrong'],
        ['nobody', 'wrong'],
        ['__proto__', 'wrong'],
        ['ann', ''],
      ].map(([name = '', secret]) => new Browser(rig, `198.51.100.${name.length + 1}`).login(name, secret)),
    );
    for (const answer of said) {
      expect([answer.status, answer.json.detail, slugOf(answer)]).toEqual([
        401,
        'Name or password is wrong.',
        'login-failed',
      ]);
    }
  });
});

describe('where a replica must have every change and none is there', () => {
  let alone: AdminRig;
  let redis: RedisServer;

  beforeEach(async () => {
    redis = await startRedis();
    const management = await openManagement(redis.url, { passwordCost: { logN: 10, r: 8, p: 1 } });
    await populate({ management });
    await management.store.close();
    alone = await startAdminRig({
      management: await openManagement(redis.url, {}, { redisMinReplicas: 1, confirmTimeoutMs: 50 }),
    });
  });
  afterEach(async () => {
    await alone.stop();
    await redis.stop();
  });

  test.each([
    ['a logout', { method: 'POST', body: {} }, '/v1/logout'],
    ['a logout everywhere', { method: 'POST', body: { everywhere: true } }, '/v1/logout'],
  ])('a login needs no replica; %s holds here and is answered 503: it could be lost', async (_, options, path) => {
    const browser = new Browser(alone);
    expect((await browser.login('ann')).status).toBe(200);
    const { cookie } = browser;
    const answer = await browser.ask(path, options);
    expect([answer.status, slugOf(answer)]).toEqual([503, 'change-not-confirmed']);
    expect((await browser.ask('/v1/me', { headers: { cookie } })).status).toBe(401);
  });

  test('the end of one of several sessions is answered 503 too', async () => {
    const [here, there] = [new Browser(alone), new Browser(alone)];
    for (const browser of [here, there]) expect((await browser.login('ann')).status).toBe(200);
    const { data } = (await here.ask('/v1/me/sessions')).json as { data: { id: string; current: boolean }[] };
    const other = data.find(({ current }) => !current)?.id;
    expect((await here.ask(`/v1/me/sessions/${other}`, { method: 'DELETE' })).status).toBe(503);
    expect((await there.ask('/v1/me')).status).toBe(401);
    expect((await here.ask('/v1/me')).status).toBe(200);
  });
});

describe('guessing', () => {
  test('ends after five tries at an account from an address, also when they come at once, and the right password waits', async () => {
    const answers = await Promise.all(Array.from({ length: 9 }, () => new Browser(rig).login('ann', 'a guess')));
    const counted = (status: number): number => answers.filter((answer) => answer.status === status).length;
    expect([counted(401), counted(429)]).toEqual([5, 4]);
    const right = await new Browser(rig).login('ann');
    expect(right.status).toBe(429);
    expect(Number(right.headers.get('retry-after'))).toBeGreaterThan(800);
  });

  test('does not lock out who comes from an address of before, nor other accounts', async () => {
    const home = new Browser(rig, '203.0.113.5');
    expect((await home.login('ann')).status).toBe(200);
    // Twenty guesses from four addresses: the account is closed to strangers.
    const { store } = rig.management;
    for (let i = 0; i < 4; i++) {
      for (let n = 0; n < 5; n++) await new Browser(rig, `198.51.100.${i}`).login('ann', 'guess');
    }
    expect((await new Browser(rig, '192.0.2.200').login('ann')).status).toBe(429);
    expect((await home.login('ann')).status).toBe(200);
    expect((await new Browser(rig, '192.0.2.201').login('gil')).status).toBe(200);
    for (const key of await (store.redis as { keys(p: string): Promise<string[]> }).keys('tk:login-*')) {
      expect(await store.redis.pttl(key)).toBeGreaterThan(0);
    }
  });

  test('of the password for a confirmation counts as one at the login', async () => {
    const browser = new Browser(rig);
    await browser.login('olga');
    const wrong = { 'x-confirm-password': 'wrong' };
    for (let i = 0; i < 5; i++) {
      expect(slugOf(await browser.ask('/v1/users/gil', { method: 'DELETE', headers: wrong }))).toBe(
        'password-required',
      );
    }
    expect((await browser.ask('/v1/users/gil', { method: 'DELETE', headers: wrong })).status).toBe(429);
    expect((await browser.login('olga')).status).toBe(429);
  });
});

test('a browser whose session has ended does not close its address to others, however often it asks', async () => {
  const stale = new Browser(rig);
  stale.cookie = `tollkeeper_session=${'A'.repeat(43)}`;
  for (let i = 0; i < 40; i++) expect((await stale.ask('/v1/me')).status).toBe(401);
  const neighbour = new Browser(rig);
  expect((await neighbour.login('ann')).status).toBe(200);
  expect((await neighbour.ask('/v1/me')).status).toBe(200);
});

describe('a session ends', () => {
  test('at its logout, here or everywhere', async () => {
    const [one, two] = [new Browser(rig), new Browser(rig)];
    await one.login('ann');
    await two.login('ann');
    const stolen = one.cookie;
    expect((await one.ask('/v1/logout', { method: 'POST', body: {} })).status).toBe(204);
    expect((await one.ask('/v1/me', { headers: { cookie: stolen } })).status).toBe(401);
    expect((await two.ask('/v1/me')).status).toBe(200);
    await one.login('ann');
    const third = one.cookie;
    await two.ask('/v1/logout', { method: 'POST', body: { everywhere: true } });
    expect((await one.ask('/v1/me', { headers: { cookie: third } })).status).toBe(401);
  });

  test('when its password, role or tenant changes, and with its user, who may come back as another', async () => {
    const all = rig.management.as(operator);
    for (const change of [
      () => all.updateUser('ann', { password: `${password}!` }),
      () => all.updateUser('ann', { tenant: 'globex', password }),
      () => all.updateUser('ann', { role: 'operator', tenant: null }),
    ]) {
      const browser = new Browser(rig);
      expect((await browser.login('ann')).status).toBe(200);
      await change();
      expect((await browser.ask('/v1/me')).status).toBe(401);
      await all.updateUser('ann', { role: 'owner', tenant: 'acme', password });
    }
    const browser = new Browser(rig);
    await browser.login('ann');
    const { secret } = await all.createAdminKey('ann', { name: 'k' });
    await all.removeUser('ann');
    expect((await browser.ask('/v1/me')).status).toBe(401);
    await all.createUser({ name: 'ann', role: 'operator', password });
    expect((await browser.ask('/v1/me')).status).toBe(401);
    expect((await rig.ask('/v1/me', { key: secret })).status).toBe(401);
  });

  test('when it was idle, and at its absolute end however busy it is', async () => {
    const { redis } = rig.management.store;
    const browser = new Browser(rig);
    await browser.login('ann');
    const [digest = ''] = await redis.zrange(keys.userSessions('ann'), 0, '-1');
    expect(await redis.pttl(keys.session(digest))).toBeGreaterThan(1_700_000);
    await redis.pexpire(keys.session(digest), 600_000);
    await browser.ask('/v1/me');
    expect(await redis.pttl(keys.session(digest))).toBeGreaterThan(1_700_000);
    // As if its twelve hours were over.
    const session = JSON.parse((await redis.get(keys.session(digest))) as string) as { endsAt: number };
    await redis.set(keys.session(digest), JSON.stringify({ ...session, endsAt: Date.now() }), 'KEEPTTL');
    expect((await browser.ask('/v1/me')).status).toBe(401);
    await browser.login('ann');
    const [, second = ''] = await redis.zrange(keys.userSessions('ann'), 0, '-1');
    await redis.pexpire(keys.session(second === '' ? digest : second), 0);
    expect((await browser.ask('/v1/me')).status).toBe(401);
  });

  test('when the user has more than twenty: the oldest makes place', async () => {
    const user = await rig.management.users.get('ann');
    const first = new Browser(rig);
    await first.login('ann');
    const { sessions } = await import('../../src/user/session.js').then(({ Sessions }) => ({
      sessions: new Sessions(rig.management.store, { idleMs: 1e6, absoluteMs: 43_300_000 }),
    }));
    for (let i = 0; i < 20; i++) await sessions.open(user, '', '');
    expect((await first.ask('/v1/me')).status).toBe(401);
    expect(await sessions.list(user)).toHaveLength(20);
  });
});

test('another site can neither log in, nor change, with or without the cookie', async () => {
  const browser = new Browser(rig);
  const bad: Record<string, string>[] = [
    { 'sec-fetch-site': 'cross-site' },
    { 'sec-fetch-site': 'same-site' },
    { origin: 'https://evil.example' },
    { origin: 'null' },
  ];
  for (const headers of bad) {
    expect([headers, slugOf(await browser.login('ann', password, headers))]).toEqual([headers, 'cross-site-request']);
  }
  await browser.login('ann');
  const create = { method: 'POST', body: { name: 'x' } };
  for (const headers of bad) {
    const refused = await browser.ask('/v1/tenants/acme/tokens', { ...create, headers });
    expect([headers, refused.status, slugOf(refused)]).toEqual([headers, 403, 'cross-site-request']);
  }
  const bare = await rig.ask('/v1/tenants/acme/tokens', { ...create, key: '', headers: { cookie: browser.cookie } });
  expect(slugOf(bare)).toBe('cross-site-request');
  const own = { origin: rig.url, 'sec-fetch-site': 'same-origin' };
  expect((await browser.ask('/v1/tenants/acme/tokens', { ...create, headers: own })).status).toBe(201);
  const preflight = await rig.ask('/v1/tenants', {
    method: 'OPTIONS',
    key: '',
    headers: { origin: 'https://evil.example' },
  });
  expect([preflight.status, preflight.headers.get('access-control-allow-origin')]).toEqual([405, null]);
});

describe('the password again', () => {
  test('is asked for before what cannot be undone, unless the login is fresh', async () => {
    const browser = new Browser(rig);
    await browser.login('ann');
    const all = rig.management.as(operator);
    const { token } = await all.createToken('acme', { name: 'x', mode: 'hmac' });
    const one = `/v1/tenants/acme/tokens/${token.id}`;
    await loginWas('ann', 600_000);
    await all.updateTenant('acme', { revealSecrets: true });
    for (const [method, path] of [
      ['POST', `${one}/revoke`],
      ['POST', `${one}/reveal`],
      ['DELETE', one],
    ] as const) {
      expect(slugOf(await browser.ask(path, { method }))).toBe('password-required');
    }
    const confirm = { 'x-confirm-password': password };
    expect((await browser.ask(`${one}/reveal`, { method: 'POST', headers: confirm })).json.secret).toMatch(/^tk_live_/);
    expect((await browser.ask(`${one}/revoke`, { method: 'POST', headers: confirm })).status).toBe(200);
    await browser.login('ann');
    expect((await browser.ask(one, { method: 'DELETE' })).status).toBe(204);
  });

  test('people change their own password with the old one, and may spell it in any alphabet', async () => {
    const browser = new Browser(rig);
    await browser.login('ann');
    const change = (currentPassword: string, next: string) =>
      browser.ask('/v1/me/password', { method: 'POST', body: { currentPassword, password: next } });
    expect(slugOf(await change('wrong', 'пароль пароль пароль'))).toBe('password-required');
    expect((await change(password, 'short')).status).toBe(422);
    expect((await change(password, 'пароль пароль пароль')).status).toBe(200);
    expect((await browser.ask('/v1/me')).status).toBe(401);
    expect((await browser.login('ann')).status).toBe(401);
    expect((await browser.login('ann', 'пароль пароль пароль')).status).toBe(200);
  });
});

test('a personal key may what its user may at the moment, ends, makes no other key, and reveals nothing alone', async () => {
  const all = rig.management.as(operator);
  const browser = new Browser(rig);
  await browser.login('ann');
  const made = await browser.ask('/v1/users/ann/keys', { method: 'POST', body: { name: 'ci', expiresAt: '30d' } });
  const { key: view, secret } = made.json as { key: { id: string; expiresAt: string }; secret: string };
  expect(await everything()).not.toContain(secret);
  expect((await rig.ask('/v1/me', { key: secret })).json).toMatchObject({
    kind: 'personal-key',
    name: 'ann',
    role: 'owner',
  });
  expect((await rig.ask('/v1/tenants/globex', { key: secret })).status).toBe(404);
  expect((await rig.ask('/v1/users/ann/keys', { method: 'POST', body: { name: 'x' }, key: secret })).status).toBe(403);
  const { token } = await all.createToken('acme', { name: 'x', mode: 'hmac' });
  await all.updateTenant('acme', { revealSecrets: true });
  const reveal = `/v1/tenants/acme/tokens/${token.id}/reveal`;
  expect(slugOf(await rig.ask(reveal, { method: 'POST', key: secret }))).toBe('password-required');
  const confirm = { 'x-confirm-password': password };
  expect((await rig.ask(reveal, { method: 'POST', key: secret, headers: confirm })).status).toBe(200);
  expect((await rig.ask(`/v1/tenants/acme/tokens/${token.id}/revoke`, { method: 'POST', key: secret })).status).toBe(
    200,
  );
  await all.updateUser('ann', { role: 'operator', tenant: null });
  expect((await rig.ask('/v1/tenants/globex', { key: secret })).status).toBe(200);
  expect(Date.parse(view.expiresAt) - Date.now()).toBeGreaterThan(29 * 86_400_000);
  expect(await rig.management.store.redis.pttl(keys.adminKey(view.id))).toBeGreaterThan(29 * 86_400_000);
  for (const wrong of [`${secret.slice(0, -1)}x`, secret.replace(view.id, '0'.repeat(12))]) {
    expect((await rig.ask('/v1/me', { key: wrong })).status).toBe(401);
  }
  expect((await rig.ask('/v1/users/gil/keys', { method: 'POST', body: { name: 'x', expiresAt: '367d' } })).status).toBe(
    422,
  );
  expect((await rig.ask(`/v1/users/gil/keys/${view.id}`, { method: 'DELETE' })).status).toBe(404);
  expect((await rig.ask(`/v1/users/ann/keys/${view.id}`, { method: 'DELETE' })).status).toBe(204);
  expect((await rig.ask('/v1/me', { key: secret })).status).toBe(401);
});

test('neither an old session nor the personal key of an operator makes or changes a user without the password', async () => {
  const browser = new Browser(rig);
  await browser.login('olga');
  const { json } = await browser.ask('/v1/users/olga/keys', { method: 'POST', body: { name: 'ci' } });
  await loginWas('olga', 600_000);
  const key = String(json.secret);
  const draft = { name: 'mallory', role: 'operator', password: 'known to mallory' };
  for (const [path, method, body] of [
    ['/v1/users', 'POST', draft],
    ['/v1/users/olga', 'PATCH', { password: draft.password }],
  ] as const) {
    expect([path, slugOf(await browser.ask(path, { method, body }))]).toEqual([path, 'password-required']);
    expect([path, slugOf(await rig.ask(path, { method, body, key }))]).toEqual([path, 'password-required']);
  }
  expect((await rig.ask('/v1/users/mallory')).status).toBe(404);
  const confirm = { 'x-confirm-password': password };
  expect((await rig.ask('/v1/users', { method: 'POST', body: draft, key, headers: confirm })).status).toBe(201);
});

describe('a live tail ends when its reader', () => {
  /** Opens one; answers once it flows, with what waits for its end. */
  async function tail(watched: AdminRig, headers: Record<string, string>): Promise<() => Promise<string>> {
    const response = await fetch(`${watched.url}/v1/tenants/acme/logs/stream`, { headers });
    expect(response.status).toBe(200);
    return () => response.text();
  }

  test.each([
    ['logs out', (browser: Browser) => browser.ask('/v1/logout', { method: 'POST', body: {} })],
    ['gets another tenant', (_, all) => all.updateUser('ann', { tenant: 'globex' })],
    ['is removed', (_, all) => all.removeUser('ann')],
  ] as [string, (browser: Browser, all: Operations) => Promise<unknown>][])('%s', async (_, endIt) => {
    const watched = await startAdminRig({ heartbeatMs: 20 });
    await populate(watched);
    const browser = new Browser(watched);
    await browser.login('ann');
    const { secret } = await watched.management.as(operator).createAdminKey('gil', { name: 'other' });
    const ended = await tail(watched, { cookie: browser.cookie });
    const other = await fetch(`${watched.url}/v1/tenants/globex/logs/stream`, {
      headers: { authorization: `Bearer ${secret}` },
    });
    await endIt(browser, watched.management.as(operator));
    expect(await ended()).toMatch(/^retry: 2000\n\n/);
    // The others go on: theirs still sends its signs of life.
    const reader = other.body?.getReader();
    for (let signs = 0; signs < 3; signs++) expect((await reader?.read())?.done).toBe(false);
    await reader?.cancel();
    await watched.stop();
  });
});

test('a live tail keeps no session from being idle', async () => {
  const watched = await startAdminRig({ heartbeatMs: 20, sessionTimes: { idleMs: 1500 } });
  await populate(watched);
  const browser = new Browser(watched);
  await browser.login('ann');
  const stream = await browser.ask('/v1/tenants/acme/logs/stream');
  expect(stream.status).toBe(200);
  expect((await browser.ask('/v1/me')).status).toBe(401);
  await watched.stop();
});

test('a flood of wrong keys from an address is stopped, and a key that was right before is not held up by it', async () => {
  const from = (address: string, key: string) => rig.ask('/v1/me', { key, headers: { 'x-forwarded-for': address } });
  const statuses = new Set<number>();
  for (let i = 0; i < 35; i++) statuses.add((await from('198.51.100.9', 'wrong-key')).status);
  expect([...statuses]).toEqual([401, 429]);
  expect((await from('198.51.100.9', adminKey)).status).toBe(429);
  expect((await from('198.51.100.10', adminKey)).status).toBe(200);
  // Known to be right by now: not held up by its neighbours any more.
  expect((await from('198.51.100.9', adminKey)).status).toBe(200);
  expect((await from('198.51.100.9', `${adminKey}x`)).status).toBe(429);
});

test('whoever gets the slug of a deleted tenant does not meet its owners', async () => {
  const deleted = (force: string) => rig.ask(`/v1/tenants/acme?force=${force}`, { method: 'DELETE' });
  const refused = await deleted('false');
  expect([refused.status, refused.json.detail]).toEqual([409, expect.stringContaining('the owner ann')]);
  expect((await deleted('true')).status).toBe(204);
  expect((await rig.ask('/v1/users/ann')).status).toBe(404);
  expect((await rig.ask('/v1/users/gil')).status).toBe(200);
});
