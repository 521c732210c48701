import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { registerPolicy } from '../../../src/cli/policy.js';

const fixtures = fileURLToPath(new URL('../../fixtures/policy/', import.meta.url));
const store = join(fixtures, 'good/policy.yaml');

/** What `tollkeeper policy check …` prints. */
function check(...args: string[]): string {
  const lines: string[] = [];
  const program = new Command();
  registerPolicy(program, { env: {}, out: (line) => lines.push(line), err: () => undefined });
  program.parse(['policy', 'check', ...args], { from: 'user' });
  return lines.join('\n');
}

describe('tollkeeper policy check', () => {
  it('lists what each route needs', () => {
    const printed = check(store);
    expect(printed).toContain('is sound: 6 routes, default deny.');
    expect(printed).toMatch(/POST +\/api\/v1\/orders\/\{id\}\/retry +orders:read and orders:write +5/);
    expect(printed).toMatch(/GET +\/api\/v1\/status +nothing \(public\) +0/);
  });

  it('prints the same as JSON', () => {
    const printed = JSON.parse(check(store, '--json')) as Record<string, unknown>;
    expect(printed).toMatchObject({
      file: store,
      default: 'deny',
      scopes: expect.arrayContaining(['admin:all']) as unknown,
    });
    expect((printed['routes'] as unknown[])[0]).toEqual({
      path: '/api/v1/admin',
      methods: ['GET'],
      scopes: ['admin:all'],
      cost: 1,
      public: false,
    });
  });

  it.each([
    [
      'GET /api/v1/%70roducts/7?q=%zz',
      'GET /api/v1/products/7 is route /api/v1/products/{id}: needs products:read, costs 1.',
    ],
    ['GET /api/v1/status', 'GET /api/v1/status is route /api/v1/status: needs nothing (public), costs 0.'],
    ['POST /api/v1/status', 'POST /api/v1/status is refused with 405 method-not-allowed; allowed: GET.'],
    ['TRACE /api/v1/status', 'TRACE /api/v1/status is refused with 405 method-not-allowed; allowed: GET, HEAD,'],
    ['GET /nope', 'GET /nope matches no route and is refused with 403 route-not-allowed.'],
    ['GET /a/../b', 'This request is refused with 400 malformed-request'],
    ['GET /api/v1/status?a#b', 'This request is refused with 400 malformed-request'],
  ])('explains %s', (request, expected) => expect(check(store, '--explain', request)).toContain(expected));

  it('explains as JSON what the data plane would decide', () => {
    const printed = JSON.parse(check(store, '--json', '--explain', 'HEAD /api/v1/orders/1/retry')) as Record<
      string,
      unknown
    >;
    expect(printed['explanation']).toEqual({
      method: 'HEAD',
      path: '/api/v1/orders/1/retry',
      outcome: 'method-not-allowed',
      route: null,
      allow: 'POST',
    });
  });

  it('refuses a bad file with exit code 1 and a bad --explain with exit code 2', () => {
    expect(() => check(join(fixtures, 'bad/route-twice.yaml'))).toThrow(expect.objectContaining({ exitCode: 1 }));
    expect(() => check(store, '--explain', '/orders')).toThrow(expect.objectContaining({ exitCode: 2 }));
  });
});
