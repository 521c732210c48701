import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Policy, type RouteRule, shapeOf } from '../../../src/policy/routes.js';

function rule(methods: string, pattern: string, extra: Partial<RouteRule> = {}): RouteRule {
  return { methods: methods.split(' '), pattern, scopes: ['s'], cost: 1, public: false, ...extra };
}

const store = new Policy(
  false,
  ['products:read', 'orders:write'],
  [
    rule('GET HEAD', '/api/v1/products', { scopes: ['products:read'] }),
    rule('GET HEAD', '/api/v1/products/{id}'),
    rule('POST', '/api/v1/products/search'),
    rule('POST', '/api/v1/orders/{id}/retry', { cost: 5 }),
    rule('GET', '/status', { public: true, scopes: [] }),
    rule('GET', '/'),
  ],
);

describe('Policy', () => {
  it('matches whole segments from first to last', () => {
    expect(store.match('GET', '/api/v1/products')?.pattern).toBe('/api/v1/products');
    expect(store.match('GET', '/api/v1/products/7')?.pattern).toBe('/api/v1/products/{id}');
    expect(store.match('POST', '/api/v1/orders/7/retry')?.cost).toBe(5);
    expect(store.match('GET', '/')?.pattern).toBe('/');
    for (const path of [
      '/statusx',
      '/stat',
      '/status/x',
      '/api/v1',
      '/api/v1/products/7/8',
      '/api/v1/orders/7',
      '/x',
    ]) {
      expect([path, store.match('GET', path), store.allowedMethods(path)]).toEqual([path, undefined, '']);
    }
  });

  it('tells letter cases and suffixes apart', () => {
    for (const path of ['/API/v1/products', '/Status', '/status.', '/status.json', '/status+']) {
      expect([path, store.match('GET', path)]).toEqual([path, undefined]);
    }
  });

  it('serves HEAD only where it is listed', () => {
    expect(store.match('HEAD', '/api/v1/products')).toBeDefined();
    expect(store.match('HEAD', '/api/v1/orders/7/retry')).toBeUndefined();
    expect(store.match('HEAD', '/status')).toBeUndefined();
  });

  it('lists the methods of the pattern that the path selects', () => {
    expect(store.allowedMethods('/api/v1/products')).toBe('GET, HEAD');
    expect(store.allowedMethods('/api/v1/orders/7/retry')).toBe('POST');
  });

  it('lets a literal win over a parameter, also for methods that only the parameter has', () => {
    expect(store.match('POST', '/api/v1/products/search')?.pattern).toBe('/api/v1/products/search');
    expect(store.match('GET', '/api/v1/products/search')).toBeUndefined();
    expect(store.allowedMethods('/api/v1/products/search')).toBe('POST');
  });

  it('goes back to the parameter where the literal leads nowhere', () => {
    const policy = new Policy(false, [], [rule('GET', '/a/b/c'), rule('GET', '/a/{x}/d'), rule('GET', '/{w}/b/e')]);
    expect(policy.match('GET', '/a/b/c')?.pattern).toBe('/a/b/c');
    expect(policy.match('GET', '/a/b/d')?.pattern).toBe('/a/{x}/d');
    expect(policy.match('GET', '/a/b/e')?.pattern).toBe('/{w}/b/e');
    expect(policy.match('GET', '/a/b')).toBeUndefined();
  });

  it('knows no path by the names of Object.prototype', () => {
    for (const path of ['/constructor', '/constructor/prototype', '/__proto__', '/api/v1/hasOwnProperty']) {
      expect(store.match('GET', path)).toBeUndefined();
    }
    expect(store.match('constructor', '/status')).toBeUndefined();
  });

  it('takes an escaped brace for data, never for a parameter', () => {
    expect(store.match('GET', '/api/v1/products/%7Bid%7D')?.pattern).toBe('/api/v1/products/{id}');
  });

  it('lets no other spelling of a literal slip into the parameter beside it', () => {
    const rules = [rule('GET', '/x/{id}', { scopes: ['weak'] }), rule('GET', '/x/a:all', { scopes: ['strong'] })];
    const strict = new Policy(false, [], rules);
    expect(strict.match('GET', '/x/a:all')?.scopes).toEqual(['strong']);
    expect(strict.match('GET', '/x/a%3Aall')).toBeUndefined();
    expect(strict.allowedMethods('/x/a%3Aall')).toBe('');
    expect(strict.match('GET', '/x/a%3Anone')?.scopes).toEqual(['weak']);
    expect(new Policy(true, [], rules).match('GET', '/x/a%3Aall')?.scopes).toEqual(['strong']);
  });

  it('lets no other spelling slip into a wider parameter further up', () => {
    const policy = new Policy(false, [], [rule('GET', '/{p}/{q}/c'), rule('GET', '/x/a:b/c')]);
    expect(policy.match('GET', '/x/a%3Ab/c')).toBeUndefined();
    expect(policy.match('GET', '/y/a%3Ab/c')?.pattern).toBe('/{p}/{q}/c');
  });

  it('agrees with a reference that compares every pattern segment by segment', () => {
    const segment = fc.constantFrom('a', 'b', '{x}');
    const pattern = fc.array(segment, { minLength: 1, maxLength: 4 }).map((parts) => `/${parts.join('/')}`);
    const path = fc
      .array(fc.constantFrom('a', 'b', 'c'), { minLength: 1, maxLength: 4 })
      .map((parts) => `/${parts.join('/')}`);
    fc.assert(
      fc.property(fc.uniqueArray(pattern, { maxLength: 12 }), path, (patterns, asked) => {
        const policy = new Policy(
          false,
          [],
          patterns.map((each) => rule('GET', each)),
        );
        expect(policy.match('GET', asked)?.pattern).toBe(reference(patterns, asked));
      }),
      { numRuns: 2000 },
    );
  });
});

/** The pattern with the most literals towards the left, of those that match. */
function reference(patterns: readonly string[], path: string): string | undefined {
  const asked = path.split('/');
  const specificity = (pattern: string) => pattern.replaceAll('{x}', '~');
  return patterns
    .filter((pattern) => {
      const parts = pattern.split('/');
      return parts.length === asked.length && parts.every((part, index) => part === '{x}' || part === asked[index]);
    })
    .sort((a, b) => (specificity(a) < specificity(b) ? -1 : 1))[0];
}

describe('shapeOf', () => {
  it('is equal for paths that no request can tell apart, and only for them', () => {
    expect(shapeOf('/a/{id}')).toBe(shapeOf('/a/{other}'));
    expect(shapeOf('/a/b:c')).toBe(shapeOf('/a/b%3Ac'));
    expect(shapeOf('/a/{id}')).not.toBe(shapeOf('/a/%7Bid%7D'));
    expect(shapeOf('/a/{id}')).not.toBe(shapeOf('/a/%7B%7D'));
  });
});
