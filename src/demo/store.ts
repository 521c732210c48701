/**
 * The demo's upstream: a small store with products, orders, customers and analytics, one of each tenant. It has no
 * authentication of its own: it believes the identity headers that Tollkeeper sets, and shows them in every answer.
 */
import { once } from 'node:events';
import { type IncomingMessage, type ServerResponse, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface DemoStore {
  readonly url: string;
  close(): Promise<void>;
}

interface Product {
  readonly id: string;
  readonly name: string;
  readonly priceCents: number;
  readonly stock: number;
}

interface Order {
  readonly id: string;
  readonly productId: string;
  readonly customerId: string;
  readonly quantity: number;
  status: 'paid' | 'failed' | 'retried';
}

interface Customer {
  readonly id: string;
  readonly name: string;
  readonly city: string;
}

interface Catalogue {
  readonly products: Product[];
  readonly orders: Order[];
  readonly customers: readonly Customer[];
}

interface Answer {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
}

const bodyBytesMax = 65_536;

/** Headers that say who calls, as Tollkeeper sends them. */
const identityHeaders = [
  'x-tollkeeper-token-id',
  'x-tollkeeper-tenant',
  'x-tollkeeper-scopes',
  'x-tollkeeper-subject',
  'x-request-id',
  'x-forwarded-for',
] as const;

/** Starts the store on a free loopback port. */
export async function startDemoStore(): Promise<DemoStore> {
  const catalogues = new Map<string, Catalogue>();
  const server = createServer((request, response) => {
    void serve(request, response, catalogues);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    async close() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

async function serve(
  request: IncomingMessage,
  response: ServerResponse,
  catalogues: Map<string, Catalogue>,
): Promise<void> {
  let body: string;
  try {
    body = await readBody(request);
  } catch {
    response.destroy();
    return;
  }
  const tenant = headerText(request, 'x-tollkeeper-tenant');
  const catalogue = catalogues.get(tenant) ?? newCatalogue(tenant);
  catalogues.set(tenant, catalogue);
  const path = (request.url ?? '/').replace(/\?.*$/s, '');
  const answer = route(request.method ?? 'GET', path, body, catalogue);
  const identity = Object.fromEntries(
    identityHeaders
      .filter((name) => request.headers[name] !== undefined)
      .map((name) => [name, headerText(request, name)]),
  );
  response.writeHead(answer.status, { 'Content-Type': 'application/json' });
  response.end(`${JSON.stringify({ ...answer.body, calledBy: identity }, null, 2)}\n`);
}

function headerText(request: IncomingMessage, name: string): string {
  return String(request.headers[name] ?? '');
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > bodyBytesMax) throw new Error('body too large');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function route(method: string, path: string, body: string, catalogue: Catalogue): Answer {
  const [resource = '', id, action] = path.replace(/^\/api\/v1\//, '').split('/');
  if (path === '/status') return ok({ status: 'open' });
  if (!path.startsWith('/api/v1/')) return notFound;
  const read = method === 'GET' || method === 'HEAD';
  if (resource === 'analytics' && id === 'summary' && read) return ok({ data: summary(catalogue) });
  if (resource === 'orders' && id !== undefined && action === 'retry' && method === 'POST') {
    return retry(catalogue, id);
  }
  if (resource === 'products' && id === undefined && method === 'POST') return addProduct(catalogue, body);
  if (!read || action !== undefined) return notFound;
  if (resource !== 'products' && resource !== 'orders' && resource !== 'customers') return notFound;
  const items: readonly (Product | Order | Customer)[] = catalogue[resource];
  if (id === undefined) return ok({ data: items });
  const item = items.find((candidate) => candidate.id === id);
  return item === undefined ? notFound : ok({ data: item });
}

const notFound: Answer = { status: 404, body: { error: 'the store has no such thing' } };

function ok(body: Answer['body']): Answer {
  return { status: 200, body };
}

function retry(catalogue: Catalogue, id: string): Answer {
  const order = catalogue.orders.find((candidate) => candidate.id === id);
  if (order === undefined) return notFound;
  if (order.status === 'paid') return { status: 409, body: { error: 'the order is paid already' } };
  order.status = 'retried';
  return ok({ data: order });
}

function addProduct(catalogue: Catalogue, body: string): Answer {
  const wanted = parseObject(body);
  const { name, priceCents } = wanted;
  if (typeof name !== 'string' || typeof priceCents !== 'number' || catalogue.products.length >= 1000) {
    return { status: 422, body: { error: 'send JSON: {"name": "Tent", "priceCents": 19900}' } };
  }
  const product: Product = { id: `p${catalogue.products.length + 1}`, name, priceCents, stock: 0 };
  catalogue.products.push(product);
  return { status: 201, body: { data: product } };
}

function parseObject(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

function summary(catalogue: Catalogue): Readonly<Record<string, number>> {
  const prices = new Map(catalogue.products.map((product) => [product.id, product.priceCents]));
  const paid = catalogue.orders.filter((order) => order.status === 'paid');
  const revenueCents = paid.reduce((sum, order) => sum + order.quantity * (prices.get(order.productId) ?? 0), 0);
  return { products: catalogue.products.length, orders: catalogue.orders.length, paid: paid.length, revenueCents };
}

const assortments: Readonly<Record<string, readonly string[]>> = {
  acme: ['Tent for two', 'Sleeping bag', 'Camping stove', 'Head torch'],
  globex: ['Espresso machine', 'Hand grinder', 'Kettle', 'Milk jug'],
};

function newCatalogue(tenant: string): Catalogue {
  const names = assortments[tenant] ?? ['Sample'];
  const products = names.map((name, index) => ({
    id: `p${index + 1}`,
    name,
    priceCents: 1900 + index * 4250,
    stock: 12 - index,
  }));
  const customers = [
    { id: 'c1', name: 'Ada Ferreira', city: 'Porto' },
    { id: 'c2', name: 'Jun Mori', city: 'Sendai' },
  ];
  const orders: Order[] = [
    { id: '1001', productId: 'p1', customerId: 'c1', quantity: 1, status: 'paid' },
    { id: '1002', productId: 'p2', customerId: 'c2', quantity: 2, status: 'failed' },
    { id: '1003', productId: 'p1', customerId: 'c2', quantity: 3, status: 'paid' },
  ];
  return { products, orders, customers };
}
