import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import { createHash, randomUUID } from 'node:crypto';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { adminDocument, type OpenApiDocument } from '../../scripts/admin-document.js';
import { keys } from '../../src/redis/keys.js';
import { type AdminRig, type Asked, Browser, password, populate, startAdminRig } from '../support/admin-rig.js';
import { openManagement, operator } from '../support/management.js';
import { until } from '../support/until.js';
import { arbitraryOf, resolve } from '../support/schema-values.js';

let rig: AdminRig;
let document: OpenApiDocument;
/** A token of acme, one of globex. */
let own = '';
let foreign = '';

beforeAll(async () => {
  rig = await startAdminRig();
  await populate(rig);
  document = await adminDocument();
  const all = rig.management.as(operator);
  own = (await all.createToken('acme', { name: 'ours', mode: 'hmac' })).token.id;
  foreign = (await all.createToken('globex', { name: 'theirs', mode: 'hmac' })).token.id;
});
afterAll(() => rig.stop());

interface Route {
  readonly method: string;
  readonly path: string;
  readonly id: string;
  readonly open: boolean;
  readonly body: Record<string, unknown> | undefined;
  readonly query: readonly { readonly name: string; readonly schema: Record<string, unknown> }[];
  readonly answers: Readonly<
    Record<
      string,
      { readonly description: string; readonly content?: Readonly<Record<string, { readonly schema: unknown }>> }
    >
  >;
}

/** Every route that the document names: a new one cannot be forgotten. */
function routes(): Route[] {
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => {
      const {
        operationId,
        security,
        requestBody,
        responses,
        parameters = [],
      } = operation as {
        operationId: string;
        responses: Route['answers'];
        security?: readonly unknown[];
        requestBody?: { content: Record<string, { schema: Record<string, unknown> }> };
        parameters?: { in: string; name: string; schema: Record<string, unknown> }[];
      };
      return {
        method: method.toUpperCase(),
        path,
        id: operationId,
        open: security?.length === 0,
        body: requestBody?.content['application/json']?.schema,
        query: parameters.filter((parameter) => parameter.in === 'query'),
        answers: responses,
      };
    }),
  );
}

function filled(path: string, values: Readonly<Record<string, string>>): string {
  return path.replaceAll(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(values[name] ?? 'x'));
}

/** Answers at length, not with one document: test/integration/admin-logs.test.ts. */
function isLasting({ answers }: Route): boolean {
  const { content } = answers[200] ?? {};
  return content !== undefined && content['application/json'] === undefined;
}

/** A body that the schemas of the route take. */
const goodBodies: Readonly<Record<string, unknown>> = {
  createTenant: { slug: 'third', name: 'x' },
  createToken: { name: 'x' },
  importToken: { name: 'x', sha256: 'cd'.repeat(32) },
  createUser: { name: 'new', role: 'operator', password: 'a long password' },
  explain: { request: 'GET /', token: 'FOREIGN' },
  createAdminKey: { name: 'x' },
};

describe('an owner', () => {
  /** Routes that name no tenant and are the owner's own, or everybody's. */
  const ownAffairs = new Set([
    'login',
    'logout',
    'showMe',
    'listMySessions',
    'endMySession',
    'changeMyPassword',
    'listScopes',
    'listTenants',
    'listAudit',
  ]);
  /** Routes for operators that name no tenant: refused as such, and their names are no secret. */
  const operatorsOnly = new Set(['createTenant', 'createUser', 'listUsers', 'verifyAudit']);

  test('is refused on every route there is that names another tenant, its token or its user, and nothing changes', async () => {
    const browser = new Browser(rig);
    await browser.login('ann');
    const trail = async (): Promise<number> => rig.management.store.redis.xlen(keys.audit());
    const before = [await trail(), (await rig.ask(`/v1/tokens/${foreign}`)).json.version];
    const refused: string[] = [];
    for (const { method, path, id, body } of routes()) {
      if (ownAffairs.has(id)) continue;
      const named = [
        { tenant: 'globex', id: foreign, user: 'gil', key: 'x' },
        { tenant: 'acme', id: foreign, user: 'gil', key: 'x' },
        { tenant: 'nobody', id: '000000000000', user: 'nobody', key: 'x' },
      ].filter((values) => path.includes('{id}') || path.includes('{user}') || values.tenant !== 'acme');
      const good = goodBodies[id] ?? (body === undefined ? undefined : {});
      const sent = good === undefined ? {} : { body: JSON.stringify(good).replace('FOREIGN', foreign) };
      for (const values of named) {
        const answer = await browser.ask(filled(path, values), { method, ...sent });
        refused.push(`${id} ${answer.status}`);
        expect([id, values, answer.status]).toEqual([id, values, operatorsOnly.has(id) ? 403 : 404]);
        expect(answer.text).not.toMatch(/theirs|globex@|tk_live_/);
      }
    }
    expect(refused.length).toBeGreaterThan(40);
    expect([await trail(), (await rig.ask(`/v1/tokens/${foreign}`)).json.version]).toEqual(before);
  });

  test('is told exactly the same of what another tenant has and of what nobody has', async () => {
    const browser = new Browser(rig);
    await browser.login('ann');
    for (const { method, path } of routes().filter((route) => route.method === 'GET' && route.path.includes('{'))) {
      const ask = async (values: Readonly<Record<string, string>>): Promise<unknown> => {
        const { status, json } = await browser.ask(filled(path, values), { method });
        return { status, ...json, instance: '', detail: String(json.detail).replaceAll(/\w{12}|gil|nobody/g, '') };
      };
      const theirs = await ask({ tenant: 'globex', id: foreign, user: 'gil', session: 'x' });
      expect([path, theirs]).toEqual([
        path,
        await ask({ tenant: 'nothing', id: '000000000000', user: 'nobody', session: 'x' }),
      ]);
    }
  });

  test('sees only its own in lists and in the audit log', async () => {
    const browser = new Browser(rig);
    await browser.login('ann');
    const lists = routes().filter(({ id, method }) => method === 'GET' && ownAffairs.has(id));
    expect(lists.map(({ id }) => id).toSorted()).toEqual([
      'listAudit',
      'listMySessions',
      'listScopes',
      'listTenants',
      'showMe',
    ]);
    for (const { path } of lists) {
      const answer = await browser.ask(path);
      expect([path, answer.status]).toEqual([path, 200]);
      expect(answer.text).not.toMatch(/globex|gil|theirs/);
    }
    const { data } = (await browser.ask('/v1/audit?per_page=100')).json as { data: { tenant: string }[] };
    expect(new Set(data.map(({ tenant }) => tenant))).toEqual(new Set(['acme']));
    expect((await browser.ask('/v1/audit?tenant=globex')).status).toBe(404);
  });
});

test('no route but the open ones answers without a credential, and a body is not looked at before it', async () => {
  for (const { method, path, open } of routes()) {
    const sent = method === 'GET' ? {} : { body: '{"not json' };
    const answer = await rig.ask(filled(path, { tenant: 'acme', id: own }), { method, key: '', ...sent });
    expect([method, path, answer.status]).toEqual([method, path, open ? 400 : 401]);
    expect(answer.headers.get('content-type')).toBe('application/problem+json');
  }
});

describe('whatever is sent', () => {
  const path = { tenant: 'acme', id: '', user: 'ann', key: '000000000000', session: 'x' };
  /** So that an answer of each kind is held against its promise. */
  const mustSucceed = [
    'createTenant',
    'listTenants',
    'showTenant',
    'updateTenant',
    'createToken',
    'importToken',
    'listTokens',
    'showToken',
    'updateToken',
    'rotateToken',
    'revokeToken',
    'listScopes',
    'listAudit',
    'verifyAudit',
    'createUser',
    'listUsers',
    'showUser',
    'createAdminKey',
    'listAdminKeys',
    'showMe',
  ];
  /** Would end the rig, or what other tests build on. */
  const spared = new Set(['login', 'logout', 'changeMyPassword']);

  const ajv = new Ajv2020({ strict: false, validateFormats: false });
  /** By route and status: to compile one takes longer than to ask. */
  const validators = new Map<string, ValidateFunction>();

  /** Holds an answer against what the document says of its route and status. */
  function promised({ id, answers }: Route, { status, json }: Asked): void {
    const { content } = answers[status] ?? answers.default ?? {};
    const media = content?.[status < 400 ? 'application/json' : 'application/problem+json'];
    if (media === undefined) throw new Error(`the document of ${id} has no ${status}`);
    const refusals = answers.default?.description.split(/\D+/).map(Number);
    if (status >= 400) expect([id, refusals]).toEqual([id, expect.arrayContaining([status])]);
    const key = `${id} ${status}`;
    const validate = validators.get(key) ?? ajv.compile(resolve(media.schema, document));
    validators.set(key, validate);
    expect([id, status, json, validate(json), validate.errors]).toEqual([id, status, json, true, null]);
  }

  test('no route fails, and each answers what its document promises', async () => {
    // A tenant of its own: what is sent at random may leave it without room for tokens.
    const all = rig.management.as(operator);
    const tenant = 'tried';
    await all.createTenant({ slug: tenant, name: tenant });
    const { token } = await all.createToken(tenant, { name: 'to be tried' });
    const succeeded = new Set<string>();
    for (const route of routes().filter(({ id, method }) => method !== 'DELETE' && !spared.has(id))) {
      if (isLasting(route)) continue;
      const ask = async (body: unknown, query: Readonly<Record<string, string>>): Promise<void> => {
        const search = new URLSearchParams(query).toString();
        const answer = await rig.ask(`${filled(route.path, { ...path, tenant, id: token.id })}?${search}`, {
          method: route.method,
          ...(route.method === 'GET' ? {} : { body: body === undefined ? '{}' : body }),
        });
        expect([route.id, body, query, answer.status < 500]).toEqual([route.id, body, query, true]);
        expect(answer.headers.get('content-type')).toMatch(/^application\/(problem\+json|json; charset=utf-8)$/);
        promised(route, answer);
        if (answer.status < 300) succeeded.add(route.id);
      };
      await all.updateTenant(tenant, { maxTokens: 1000 });
      await ask(goodBodies[route.id], {});
      const schema = route.body === undefined ? undefined : resolve(route.body, document);
      const bodies = schema === undefined ? fc.constant(undefined) : arbitraryOf(schema);
      const text = fc.oneof(fc.string({ unit: 'binary' }), fc.bigInt().map(String));
      const queries = fc.record(Object.fromEntries(route.query.map(({ name }) => [name, text])), { requiredKeys: [] });
      await fc.assert(
        fc.asyncProperty(bodies, queries, (body, query) => ask(body, query as Readonly<Record<string, string>>)),
        { numRuns: 25 },
      );
    }
    expect(succeeded).toEqual(new Set([...succeeded, ...mustSucceed]));
  });

  test('ids and names of every spelling are 404 or taken for what they are, never a failure', async () => {
    const texts = ['__proto__', 'constructor', '%00', '%2f', 'ä', '\u{1f600}', '*', '{x}', 'a'.repeat(99)];
    for (const route of routes()) {
      const { method, path: template } = route;
      if (!template.includes('{') || method !== 'GET' || isLasting(route)) continue;
      for (const text of texts) {
        const parameters = [...template.matchAll(/\{(\w+)\}/g)].map(([, name]) => name as string);
        for (const name of parameters) {
          const url = filled(template, { ...path, id: own, [name]: 'MARK' }).replace('MARK', encodeURI(text));
          const { status } = await rig.ask(url);
          expect([url, status]).toEqual([url, expect.toSatisfy((found: number) => [400, 403, 404].includes(found))]);
        }
      }
    }
  });

  test('a field that no schema names is refused on every route that takes a body', async () => {
    for (const { id, method, path: template } of routes()) {
      if (method === 'GET' || spared.has(id)) continue;
      const good = JSON.parse(JSON.stringify(goodBodies[id] ?? {}).replace('FOREIGN', own)) as object;
      for (const [field, body] of [
        ['surplus', { ...good, surplus: 1 }],
        ['constructor', { ...good, constructor: { name: 'x' } }],
      ] as const) {
        const answer = await rig.ask(filled(template, { ...path, id: own }), { method, body });
        expect([id, answer.status]).toEqual([
          id,
          expect.toSatisfy((status: number) => status === 422 || status === 400),
        ]);
        if (answer.status === 422)
          expect([id, JSON.stringify(answer.json.errors)]).toEqual([id, expect.stringContaining(field)]);
      }
      const polluted = await rig.ask(filled(template, { ...path, id: own }), { method, body: '{"__proto__":{"x":1}}' });
      expect([id, polluted.status]).toEqual([id, 400]);
    }
  });

  test('each field at fault is named, and its value never repeated', async () => {
    const body = {
      name: '',
      scopes: ['CANARY canary'],
      rateLimit: { limit: -1, window: 'canary' },
      expiresAt: 'canary',
    };
    const answer = await rig.ask('/v1/tenants/acme/tokens', { method: 'POST', body });
    const { errors } = answer.json as { errors: { field: string }[] };
    expect(errors.map(({ field }) => field)).toEqual(['name', 'scopes.0', 'rateLimit.limit', 'rateLimit.window']);
    expect(answer.text).not.toMatch(/canary/i);
  });

  test('half of a surrogate pair is refused: strict readers of JSON could not read the list any more', async () => {
    const url = '/v1/tenants/acme/tokens';
    for (const body of [
      '{"name":"\\ud800"}',
      '{"name":"x","metadata":{"\\udc00":"x"}}',
      '{"name":"x","metadata":{"k":"\\ud800x"}}',
    ]) {
      expect([body, (await rig.ask(url, { method: 'POST', body })).status]).toEqual([body, 422]);
    }
    expect((await rig.ask(url, { method: 'POST', body: { name: '\u{1f600}' } })).json.token).toMatchObject({
      name: '\u{1f600}',
    });
  });

  test('the type of JSON without a body is no fault where no body is needed', async () => {
    const headers = { 'content-type': 'application/json' };
    const post = (path: string) => rig.ask(path, { method: 'POST', headers });
    expect((await post(`/v1/tenants/acme/tokens/${own}/deactivate`)).status).toBe(200);
    expect((await post(`/v1/tenants/acme/tokens/${own}/activate`)).status).toBe(200);
    expect((await post('/v1/tenants/acme/tokens')).json.errors).toEqual([{ field: 'name', message: 'is required' }]);
  });

  test('another method is told which ones there are; HEAD asks what GET asks', async () => {
    const browser = new Browser(rig);
    await browser.login('ann');
    for (const method of ['PUT', 'OPTIONS']) {
      const { status, headers } = await browser.ask('/v1/tenants', { method });
      expect([method, status, headers.get('allow')]).toEqual([method, 405, 'POST, GET, HEAD']);
    }
    const head = await rig.ask('/v1/tenants', { method: 'HEAD', key: '', headers: { cookie: browser.cookie } });
    expect([head.status, head.text]).toEqual([200, '']);
  });

  test('a body over the limit, of another type, or that is no JSON is refused as such', async () => {
    const send = (body: string, type = 'application/json') =>
      rig.ask('/v1/tenants', { method: 'POST', body, headers: { 'content-type': type } });
    const statuses = await Promise.all([
      send(JSON.stringify({ slug: 'x', name: 'y'.repeat(70_000) })),
      send('slug=x', 'application/x-www-form-urlencoded'),
      send('{}', 'text/plain'),
      send('{"slug":'),
      send('[]'),
      send('"text"'),
    ]);
    expect(statuses.map(({ status }) => status)).toEqual([413, 415, 415, 400, 422, 422]);
    for (const { json, headers } of statuses) {
      expect(headers.get('content-type')).toBe('application/problem+json');
      expect(json.type).toMatch(/^https:\/\/tollkeeper\.dev\/problems\//);
    }
  });
});

describe('a lost update', () => {
  test('of two PATCHes at once for one version, one is 412 and can be made again', async () => {
    const { token } = await rig.management.as(operator).createToken('acme', { name: 'two' });
    const url = `/v1/tenants/acme/tokens/${token.id}`;
    const etag = (await rig.ask(url)).headers.get('etag') ?? '';
    const patch = (name: string, match: string) =>
      rig.ask(url, { method: 'PATCH', body: { name }, headers: { 'if-match': match } });
    const both = await Promise.all([patch('a', etag), patch('b', etag)]);
    expect(new Set(both.map(({ status }) => status))).toEqual(new Set([200, 412]));
    expect((await patch('c', etag)).status).toBe(412);
    const now = (await rig.ask(url)).headers.get('etag') ?? '';
    expect((await patch('c', now)).headers.get('etag')).toBe('"3"');
    for (const match of ['"x"', 'W/"3"', '3', ''])
      expect([match, (await patch('d', match)).status]).toEqual([match, 412]);
    expect((await patch('d', '*')).status).toBe(200);
  });

  test('without If-Match two PATCHes of different fields both hold', async () => {
    const { token } = await rig.management.as(operator).createToken('acme', { name: 'two' });
    const url = `/v1/tenants/acme/tokens/${token.id}`;
    const changes = [{ name: 'new' }, { scopes: ['a'] }, { subject: 's' }, { metadata: { k: 'v' } }];
    const made = await Promise.all(changes.map((body) => rig.ask(url, { method: 'PATCH', body })));
    expect(made.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
    expect((await rig.ask(url)).json).toMatchObject({ name: 'new', scopes: ['a'], subject: 's', version: 5 });
  });
});

describe('an Idempotency-Key', () => {
  const create = (key: string, body: object = { name: 'once' }, options: object = {}) =>
    rig.ask('/v1/tenants/acme/tokens', { method: 'POST', body, headers: { 'idempotency-key': key }, ...options });

  test('lets a creation run once however often it is sent, and gives the secret again, which Redis does not know', async () => {
    const first = await create('k1');
    const again = await create('k1');
    expect([first.status, again.status]).toEqual([201, 201]);
    expect(again.json).toEqual(first.json);
    expect([first, again].map(({ headers }) => headers.get('idempotent-replayed'))).toEqual([null, 'true']);
    const { redis } = rig.management.store;
    const kept = await (redis as { keys(p: string): Promise<string[]> }).keys('tk:idempotency:*');
    for (const key of kept) {
      expect(await redis.get(key)).not.toContain(first.json.secret);
      expect(await redis.pttl(key)).toBeGreaterThan(80_000_000);
    }
  });

  test('runs one of several that come at once; the others are told to wait or given its answer', async () => {
    const answers = await Promise.all(Array.from({ length: 6 }, () => create('k2')));
    const created = new Set(answers.filter(({ status }) => status === 201).map(({ json }) => JSON.stringify(json)));
    expect(created.size).toBe(1);
    expect(answers.every(({ status }) => status === 201 || status === 409)).toBe(true);
  });

  test('belongs to one request of one principal', async () => {
    await create('k3');
    expect((await create('k3', { name: 'another' })).status).toBe(422);
    const browser = new Browser(rig);
    await browser.login('ann');
    const other = await browser.ask('/v1/tenants/acme/tokens', {
      method: 'POST',
      body: { name: 'once' },
      headers: { 'idempotency-key': 'k3' },
    });
    expect([other.status, other.headers.get('idempotent-replayed')]).toEqual([201, null]);
  });

  test('leaves no hash behind from which a password in the body could be guessed', async () => {
    const body = { name: 'kept', role: 'operator', tenant: null, password: 'guess me if you can' };
    const headers = { 'idempotency-key': randomUUID() };
    const send = () => rig.ask('/v1/users', { method: 'POST', body, headers });
    expect([(await send()).status, (await send()).headers.get('idempotent-replayed')]).toEqual([201, 'true']);
    expect((await rig.ask('/v1/users', { method: 'POST', body: { ...body, password }, headers })).status).toBe(422);
    const { redis } = rig.management.store;
    const kept = await (redis as { keys(p: string): Promise<string[]> }).keys('tk:idempotency:*');
    const hash = createHash('sha256')
      .update(`/v1/users\n${JSON.stringify(body)}`)
      .digest('hex');
    for (const key of kept) expect(`${key} ${await redis.get(key)}`).not.toContain(hash);
    expect((await rig.ask('/v1/users/kept', { method: 'DELETE' })).status).toBe(204);
  });

  test('of a time when its holder had other rights is not answered again', async () => {
    const all = rig.management.as(operator);
    await all.createUser({ name: 'moving', role: 'owner', tenant: 'acme', password });
    const send = async () => {
      const browser = new Browser(rig, '198.51.100.77');
      await browser.login('moving');
      const headers = { 'idempotency-key': 'k6' };
      return browser.ask('/v1/tenants/acme/tokens', { method: 'POST', body: { name: 'once' }, headers });
    };
    expect((await send()).status).toBe(201);
    await all.updateUser('moving', { tenant: 'globex' });
    expect((await send()).status).toBe(404);
    await all.removeUser('moving');
  });

  test('of a request that was refused may be used again; a malformed one is refused', async () => {
    const tenant = { method: 'POST', headers: { 'idempotency-key': 'k4' }, body: { slug: 'acme', name: 'x' } };
    expect([(await rig.ask('/v1/tenants', tenant)).status, (await rig.ask('/v1/tenants', tenant)).status]).toEqual([
      409, 409,
    ]);
    expect((await create('x'.repeat(256))).status).toBe(400);
  });

  test('whose process ended half way is refused, not run twice', async () => {
    const done = await create('k5');
    const { redis } = rig.management.store;
    for (const key of await (redis as { keys(p: string): Promise<string[]> }).keys('tk:idempotency:*')) {
      const { done: _done, ...mark } = JSON.parse((await redis.get(key)) as string) as Record<string, unknown>;
      await redis.set(key, JSON.stringify({ ...mark, begunAt: Date.now() - 120_000 }));
    }
    const again = await create('k5');
    expect([done.status, again.status, again.json.detail]).toEqual([201, 409, expect.stringContaining('not known')]);
  });

  test('without a master key keeps no secret, and says so', async () => {
    const bare = await startAdminRig({ masterKey: false });
    await populate(bare);
    const send = () =>
      bare.ask('/v1/tenants/acme/tokens', {
        method: 'POST',
        body: { name: 'once' },
        headers: { 'idempotency-key': 'k' },
      });
    expect([(await send()).status, await send()]).toMatchObject([201, { status: 409 }]);
    expect((await bare.ask('/v1/tenants/acme/tokens')).json).toMatchObject({ meta: { total: 1 } });
    await bare.stop();
  });
});

test('nobody searches a month of logs more than twice at a time, and others still can', async () => {
  let searches = 0;
  let end = (): void => {};
  const ended = new Promise<void>((resolve) => {
    end = resolve;
  });
  const logged = () => {
    searches += 1;
    return ended.then(() => [{}]);
  };
  const searched = await startAdminRig({ explain: { described: () => Promise.resolve({ token: null }), logged } });
  await populate(searched);
  const search = { method: 'POST', body: { requestId: 'x', days: 31 } };
  const under = [searched.ask('/v1/explain', search), searched.ask('/v1/explain', search)];
  await until(() => searches === 2);
  const third = await searched.ask('/v1/explain', search);
  expect([third.status, third.headers.get('retry-after')]).toEqual([429, '5']);
  const browser = new Browser(searched);
  await browser.login('ann');
  const other = browser.ask('/v1/explain', search);
  await until(() => searches === 3);
  end();
  expect((await Promise.all([...under, other])).map(({ status }) => status)).toEqual([200, 200, 200]);
  expect((await searched.ask('/v1/explain', search)).status).toBe(200);
  await searched.stop();
});

test('more requests than a minute allows are 429 with Retry-After, each principal for itself', async () => {
  const limited = await startAdminRig({ requestsPerMinute: 5 });
  await populate(limited);
  const browser = new Browser(limited);
  await browser.login('ann');
  const statuses: number[] = [];
  for (let i = 0; i < 7; i++) statuses.push((await limited.ask('/v1/me')).status);
  expect(statuses).toEqual([200, 200, 200, 200, 200, 429, 429]);
  const refused = await limited.ask('/v1/me');
  expect([refused.json.type, Number(refused.headers.get('retry-after'))]).toEqual([
    'https://tollkeeper.dev/problems/too-many-requests',
    expect.toSatisfy((seconds: number) => seconds > 0 && seconds <= 60),
  ]);
  expect((await browser.ask('/v1/me')).status).toBe(200);
  await limited.stop();
});

test('a change that too few replicas have is 503, says that it may hold, and is unconfirmed in the audit log', async () => {
  const management = await openManagement(rig.redis.url, {}, { redisMinReplicas: 1, confirmTimeoutMs: 20 });
  const lone = await startAdminRig({ management });
  const sent = { method: 'POST', body: { name: 'x' }, headers: { 'idempotency-key': 'unconfirmed' } };
  const answer = await lone.ask('/v1/tenants/acme/tokens', sent);
  expect([answer.status, answer.json.type, answer.headers.get('retry-after')]).toEqual([
    503,
    'https://tollkeeper.dev/problems/change-not-confirmed',
    '1',
  ]);
  const { json } = await rig.ask('/v1/audit?result=unconfirmed&action=token.create');
  expect(json).toMatchObject({ meta: { total: 1 }, data: [{ details: { error: 'NotConfirmedError' } }] });
  const again = await lone.ask('/v1/tenants/acme/tokens', sent);
  expect([again.status, again.json.type]).toEqual([409, 'https://tollkeeper.dev/problems/idempotency-conflict']);
  await lone.stop();
});

test('Redis away is 503 and never a 401', async () => {
  const away = await startAdminRig();
  await populate(away);
  const browser = new Browser(away);
  await browser.login('ann');
  const { secret } = await away.management.as(operator).createAdminKey('ann', { name: 'k' });
  away.redis.freeze();
  const answers = await Promise.all([
    away.ask('/v1/tenants'),
    away.ask('/v1/me', { key: secret }),
    browser.ask('/v1/me'),
    away.ask('/v1/tenants', { method: 'POST', body: { slug: 'new', name: 'x' } }),
    new Browser(away, '192.0.2.9').login('ann'),
  ]);
  away.redis.thaw();
  for (const answer of answers) {
    expect([answer.status, answer.headers.get('retry-after')]).toEqual([503, '1']);
    expect(answer.json.type).toBe('https://tollkeeper.dev/problems/admin-store-unavailable');
  }
  await away.stop();
});

test('10,000 tokens of one tenant are listed page by page: each once, in their order', async () => {
  const all = rig.management.as(operator);
  await all.createTenant({ slug: 'big', name: 'Big', maxTokens: 10_000 });
  const { tokens } = rig.management;
  const { redis } = rig.management.store;
  const { record } = await tokens.create('big', {
    ...(await tokens.get(own)),
    name: 'first',
    mode: 'bearer',
  });
  // As many as fit, written as `token create` writes them; making them one by one would confirm each.
  const { drawTokenId } = await import('../../src/token/format.js');
  const ids = [record.id];
  for (let batch = 0; batch < 100; batch++) {
    const pipeline = redis.pipeline();
    for (let i = 0; i < 100 && ids.length < 10_000; i++) {
      const id = drawTokenId('big');
      const createdAt = record.createdAt + ids.length;
      ids.push(id);
      pipeline.hset(keys.token(id), {
        version: 1,
        record: JSON.stringify({ ...record, id, createdAt, name: `n${i}` }),
      });
      pipeline.zadd(keys.tenantTokens('big'), createdAt, id);
    }
    await pipeline.exec();
  }
  const seen: string[] = [];
  for (let page = 1; ; page++) {
    const { json } = await rig.ask(`/v1/tenants/big/tokens?page=${page}&per_page=100`);
    const { data, meta } = json as { data: { id: string }[]; meta: object };
    expect(meta).toEqual({ page, per_page: 100, total: 10_000, total_pages: 100 });
    if (data.length === 0) break;
    seen.push(...data.map(({ id }) => id));
    if (page === 100) break;
  }
  expect(seen).toEqual(ids);
});
