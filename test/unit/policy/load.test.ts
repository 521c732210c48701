import { readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { OperatorError } from '../../../src/core/failure.js';
import { denyAll, loadPolicy } from '../../../src/policy/load.js';

const fixtures = fileURLToPath(new URL('../../fixtures/policy/', import.meta.url));

/** What each bad policy file must be refused with: position, key, what is wrong. */
const badPolicies: Readonly<Record<string, string>> = {
  'beside-policy': '3:1: routes: stands beside policy:, indent it to stand below',
  'cost-fraction': '2:44: routes[0].cost: must be a whole number from 1 to 1000000; found 1.5',
  'cost-too-high': '2:44: routes[0].cost: must be a whole number from 1 to 1000000; found 1000001',
  'cost-zero': '2:44: routes[0].cost: must be a whole number from 1 to 1000000; found 0',
  'default-unknown': '1:10: default: must be deny or allow-authenticated; found "allow"',
  empty: '1:1: there is no policy here; allowed keys are default, scopes, routes, openapi',
  'key-twice': '2:1: not valid YAML: Map keys must be unique',
  'method-lower-case':
    '2:17: routes[0].methods[0]: allowed methods are GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS; found "get"',
  'method-trace':
    '2:22: routes[0].methods[1]: allowed methods are GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS; found "TRACE"',
  'methods-empty': '2:7: routes[0].methods: must list at least one method, such as [GET, HEAD]',
  'methods-missing': '2:5: routes[0].methods: must be a list of methods, such as [GET, HEAD]; found nothing',
  'methods-repeated': '2:7: routes[0].methods: names a method more than once',
  'not-a-mapping': '1:1: must be a mapping with the keys default, scopes, routes, openapi; found ["deny"]',
  'openapi-missing': '1:10: openapi: no-such-file.yaml: there is no such file; check the path',
  'path-colon-parameter': '2:29: routes[0].path: a parameter is written {id}; found ":id"',
  'path-dot-segment':
    '2:29: routes[0].path: no request path may hold "..": dot segments, ; \\ and encoded slashes are always refused',
  'path-empty-segment': '2:29: routes[0].path: must not hold an empty segment (//)',
  'path-encoded-slash':
    '2:29: routes[0].path: no request path may hold "orders%2fall": dot segments, ; \\ and encoded slashes are always refused',
  'path-missing': '2:5: routes[0].path: must be a path, such as "/orders/{id}"; found nothing',
  'path-not-ascii':
    '2:29: routes[0].path: requests are matched in their normal form: write "caf%C3%A9" instead of "café"',
  'path-not-normal':
    '2:29: routes[0].path: requests are matched in their normal form: write "orders" instead of "%6frders"',
  'path-parameter-in-segment':
    '2:29: routes[0].path: a parameter is one whole segment, {name} with letters, digits, _ . and -; found "{id}.json"',
  'path-parameter-twice': '2:29: routes[0].path: names the parameter {id} twice',
  'path-query': '2:29: routes[0].path: must be a path without query and fragment; found "/orders?page=1"',
  'path-relative': '2:29: routes[0].path: must begin with a slash; found "orders"',
  'path-semicolon':
    '2:29: routes[0].path: no request path may hold "orders;v=1": dot segments, ; \\ and encoded slashes are always refused',
  'path-trailing-slash': '2:29: routes[0].path: must not end with a slash: write "/orders"',
  'path-unquoted-braces':
    '2:37: not valid YAML: Unexpected flow-map-start at node end; put quotes around a path that holds {…}',
  'path-wildcard': '2:29: routes[0].path: there are no wildcards: name each path, with {name} for a segment; found "*"',
  'public-not-boolean': '2:46: routes[0].public: must be true or false; found "yes"',
  'public-with-cost': '2:58: routes[0].cost: a public route is charged nothing: remove cost, or public',
  'public-with-scope': '3:45: routes[0].scope: a public route asks for no token: remove scope, or public',
  'route-not-a-mapping':
    '2:5: routes[0]: must be a mapping with the keys methods, path, scope, cost, public, onStoreOutage; found "GET /orders"',
  'route-twice-other-parameter': '3:29: GET /orders/{number} is ruled twice: first at 2:29',
  'route-twice-other-spelling': '3:29: GET /orders/a%3Ab is ruled twice: first at 2:29',
  'route-twice': '3:30: POST /orders is ruled twice: first at 2:35',
  'routes-not-a-list': '1:1: routes: must be a list of routes; found {"/orders":{"methods":["GET"]}}',
  'scope-list-with-number':
    '3:59: routes[0].scope[1]: a scope is 1 to 128 visible ASCII characters without comma, " and \\; found 7',
  'scope-not-text': '3:45: routes[0].scope: must be a scope or a list of scopes; found 7',
  'scope-undeclared':
    '5:12: routes[0].scope: the scope "orders:raed" is not declared in scopes; declared are orders:read',
  'scope-with-comma':
    '1:10: scopes[0]: a scope is 1 to 128 visible ASCII characters without comma, " and \\; found "a,b"',
  'scopes-repeated': '1:1: scopes: declares a scope more than once',
  several:
    'the policy has 3 problems:\nseveral.yaml:1:10: default: must be deny or allow-authenticated; found "maybe"\nseveral.yaml:3:17: routes[0].methods[0]: allowed methods are GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS; found "FETCH"\nseveral.yaml:3:31: routes[0].path: must begin with a slash; found "orders"',
  'unknown-key': '2:1: route: unknown key "route"; allowed keys are default, scopes, routes, openapi',
  'unknown-route-key':
    '5:13: routes[0].scopes: unknown key "scopes"; allowed keys are methods, path, scope, cost, public, onStoreOutage',
};

/** The same for OpenAPI files. */
const badOpenApi: Readonly<Record<string, string>> = {
  alternatives:
    '6:7: paths["/orders"].get.security: lists alternatives that ask for different scopes; a route has one set of scopes',
  'bearer-scopes-30':
    '5:25: paths["/orders"].get.security[0].key: lists scopes, which OpenAPI 3.0 knows for oauth2 and openIdConnect only; use openapi: 3.1.0',
  combined:
    '4:23: paths["/orders"].get.security[0]: asks for key and other together; a request carries exactly one credential',
  'cost-public': '5:31: paths["/orders"].get.x-tollkeeper-cost: a public operation is charged nothing: remove it',
  cost: '6:31: paths["/orders"].get.x-tollkeeper-cost: must be a whole number from 1 to 1000000; found "lots"',
  'external-reference':
    '4:3: paths["/orders"]: refers to "orders.yaml"; only references to a place in this document (#/…) are followed, one step',
  matrix: '6:20: paths["/orders/{id}"].get.parameters[0]: is in matrix style; a request path may not hold a semicolon',
  'no-security':
    '4:5: paths["/orders"].get: says nothing about security: name its scopes, or write security: [] to make it public',
  optional:
    '5:12: paths["/orders"].get.security: lists alternatives that ask for different scopes; a route has one set of scopes',
  'paths-missing': '1:1: paths: must be a mapping of paths; found nothing',
  'reference-beside': '5:3: paths["/orders"]: has post beside a reference; write it in one place',
  'route-twice': '7:5: GET /orders/{number} is ruled twice: first at 5:5',
  'scheme-basic':
    '5:25: paths["/orders"].get.security[0].key: is no scheme that Tollkeeper checks: oauth2, openIdConnect, http bearer or an apiKey in a header',
  'scheme-query':
    '5:25: paths["/orders"].get.security[0].key: is no scheme that Tollkeeper checks: oauth2, openIdConnect, http bearer or an apiKey in a header',
  'scheme-undeclared': '4:25: paths["/orders"].get.security[0].key: is not declared in components.securitySchemes',
  'scope-malformed':
    '5:31: paths["/orders"].get.security[0].key[0]: a scope is 1 to 128 visible ASCII characters without comma, " and \\; found "a,b"',
  'scope-undeclared':
    '7:12: paths["/orders"].get.security: the scope "orders:raed" is not declared in scopes; declared are orders:read',
  'server-variable': '2:18: servers[0].url: has a variable in its path; a route needs a fixed base path',
  'servers-differ': '2:1: servers: have different base paths (/v1, /v2); a route has one',
  'template-in-segment':
    '4:3: paths["/orders/{id}.json"]: a parameter is one whole segment, {name} with letters, digits, _ . and -; found "{id}.json"',
  trace:
    '5:5: paths["/orders"].trace: cannot be a route: allowed methods are get, head, post, put, patch, delete, options',
  'trailing-slash': '4:3: paths["/orders/"]: must not end with a slash: write "/orders"',
  version: '1:1: openapi: must be an OpenAPI 3 document, such as openapi: 3.1.0; found nothing',
};

function refusal(load: () => unknown): string {
  try {
    load();
  } catch (error) {
    expect(error).toBeInstanceOf(OperatorError);
    return (error as OperatorError).message;
  }
  throw new Error('was not refused');
}

/** A message with the folder and the given file name taken out. */
function plain(message: string, folder: string, name: string): string {
  const bare = message.replaceAll(join(fixtures, folder, '/'), '');
  return bare.startsWith('the policy has') ? bare : bare.replaceAll(`${name}.yaml:`, '');
}

function names(folder: string): string[] {
  return readdirSync(join(fixtures, folder))
    .map((file) => basename(file, '.yaml'))
    .sort();
}

/** An inline policy, as src/config hands it over: positions are lines. */
function inline(value: unknown, source = join(fixtures, 'good/tollkeeper.yaml')) {
  return { kind: 'inline', value, source, line: 4, lineOf: (path: readonly unknown[]) => 4 + path.length } as const;
}

describe('a bad policy file is refused with position, key and what is allowed', () => {
  it('in every fixture', () => expect(names('bad')).toEqual(Object.keys(badPolicies).sort()));

  it.each(Object.entries(badPolicies))('%s', (name, expected) => {
    const message = refusal(() => loadPolicy({ kind: 'file', path: join(fixtures, 'bad', `${name}.yaml`) }));
    expect(plain(message, 'bad', name)).toBe(expected);
  });

  it('also when it is missing or not a file', () => {
    expect(refusal(() => loadPolicy({ kind: 'file', path: '/nowhere/p.yaml' }))).toBe(
      '/nowhere/p.yaml: there is no such file; check the path',
    );
    expect(refusal(() => loadPolicy({ kind: 'file', path: fixtures }))).toContain('it cannot be read (EISDIR)');
  });
});

describe('a bad OpenAPI file is refused, never read in part', () => {
  it('in every fixture', () => expect(names('openapi-bad')).toEqual(Object.keys(badOpenApi).sort()));

  it.each(Object.entries(badOpenApi))('%s', (name, expected) => {
    const message = refusal(() => loadPolicy(inline({ openapi: `../openapi-bad/${name}.yaml` })));
    expect(plain(message, 'openapi-bad', name)).toBe(expected);
  });
});

describe('loadPolicy', () => {
  it('refuses every route when no policy is configured', () => {
    expect(loadPolicy(undefined)).toBe(denyAll);
    expect([denyAll.defaultAllow, denyAll.match('GET', '/'), denyAll.allowedMethods('/')]).toEqual([
      false,
      undefined,
      '',
    ]);
  });

  it('reads the same policy from policy:, from the top level and from the configuration', () => {
    const content = { default: 'deny', scopes: ['a'], routes: [{ methods: ['GET'], path: '/x', scope: 'a', cost: 3 }] };
    const expected = [{ methods: ['GET'], pattern: '/x', scopes: ['a'], cost: 3, public: false }];
    expect(loadPolicy(inline(content)).rules).toEqual(expected);
    for (const name of ['wrapped', 'bare', 'config', 'reference']) {
      expect(loadPolicy({ kind: 'file', path: join(fixtures, `good/${name}.yaml`) }).rules).toEqual(expected);
    }
  });

  it('names file and line of an inline policy', () => {
    expect(refusal(() => loadPolicy(inline({ routes: [{ methods: ['GET'], path: 'x' }] }, 'tollkeeper.yaml')))).toBe(
      'tollkeeper.yaml:7: routes[0].path: must begin with a slash; found "x"',
    );
  });

  it('denies by default, costs 1, and asks for every scope of a list', () => {
    const policy = loadPolicy(
      inline({
        scopes: ['a', 'b'],
        routes: [
          { methods: ['GET'], path: '/both', scope: ['a', 'b'] },
          { methods: ['GET'], path: '/any' },
          { methods: ['GET'], path: '/open', public: true },
        ],
      }),
    );
    expect(policy.defaultAllow).toBe(false);
    expect(policy.scopes).toEqual(['a', 'b']);
    expect(policy.match('GET', '/both')).toMatchObject({ scopes: ['a', 'b'], cost: 1, public: false });
    expect(policy.match('GET', '/any')).toMatchObject({ scopes: [], public: false });
    expect(policy.match('GET', '/open')).toMatchObject({ scopes: [], public: true });
  });

  it('can open what no route names to any valid token', () => {
    expect(loadPolicy(inline({ default: 'allow-authenticated' })).defaultAllow).toBe(true);
  });

  it('merges the routes and scopes of an OpenAPI file', () => {
    const policy = loadPolicy({ kind: 'file', path: join(fixtures, 'good/policy.yaml') });
    expect(policy.scopes).toEqual(['admin:all', 'products:read', 'orders:write', 'orders:read']);
    expect(policy.match('GET', '/api/v1/admin')?.scopes).toEqual(['admin:all']);
    expect(policy.match('HEAD', '/api/v1/products')?.scopes).toEqual(['products:read']);
    expect(policy.match('GET', '/api/v1/products/7')?.pattern).toBe('/api/v1/products/{id}');
    expect(policy.match('POST', '/api/v1/orders/7/retry')).toMatchObject({
      scopes: ['orders:read', 'orders:write'],
      cost: 5,
    });
    expect(policy.match('GET', '/api/v1/status')?.public).toBe(true);
    expect(policy.match('GET', '/products')).toBeUndefined();
  });

  it('reads OpenAPI 3.1 in JSON: bearer scopes, references, an operation that overrides', () => {
    const policy = loadPolicy(inline({ openapi: 'store.json' }));
    expect(policy.scopes).toEqual(['orders:read', 'orders:write']);
    expect(policy.match('GET', '/orders')?.scopes).toEqual(['orders:read']);
    expect(policy.match('POST', '/orders')?.scopes).toEqual(['orders:write']);
    expect(policy.match('GET', '/me')).toMatchObject({ scopes: [], public: false });
    expect(policy.match('GET', '/')?.public).toBe(true);
  });

  it('refuses a route that policy and OpenAPI file both rule', () => {
    const value = { openapi: 'store.yaml', routes: [{ methods: ['GET'], path: '/api/v1/products' }] };
    expect(refusal(() => loadPolicy(inline(value)))).toMatch(
      /store\.yaml:15:5: GET \/api\/v1\/products is ruled twice: first at/,
    );
  });

  it('never prints more than a line of what it found', () => {
    const message = refusal(() => loadPolicy(inline({ default: 'x'.repeat(10_000) })));
    expect(message.length).toBeLessThan(300);
  });
});
