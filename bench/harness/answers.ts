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

/** Where the upstream answers 1 MiB of the pattern (pattern.ts), and where it takes as much. */
export const pagePath = '/api/v1/products/page';
export const uploadPath = '/api/v1/uploads';

/** What the upstream says to an upload of `bytes` that are those of the pattern. */
export function uploadAnswer(bytes: number): string {
  return JSON.stringify({ bytes, asSent: true });
}
