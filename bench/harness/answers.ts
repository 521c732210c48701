/** What the servers of the benchmark answer, known to those that check it. */

/** The body of the upstream, about 200 bytes. */
export const upstreamBody = JSON.stringify({
  id: '42',
  sku: 'TK-000042',
  name: 'Brass turnstile, two-armed, left-handed',
  price: { amount: 129_900, currency: 'EUR' },
  stock: 17,
  tags: ['turnstile', 'brass', 'outdoor'],
  updatedAt: '2026-01-01T00:00:00Z',
});

export const echoBody = 'ok';
