/** The OpenAPI 3.1 document, made of the routes' own schemas, and a page to read it. */
import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import type { FastifyInstance, FastifySchema } from 'fastify';
import { z } from 'zod';
import type { AnyRoute } from './route.js';
import { named, problemSchema } from './schemas.js';

type JsonSchema = Record<string, unknown>;

const describing = [
  'Create, look at, rotate, switch and end the tokens of an API behind Tollkeeper.',
  'Lists take `page` and `per_page` and answer `{data, meta}`. Whatever is no success is `application/problem+json`',
  '(RFC 9457); `errors` names each field at fault. Times are RFC 3339 in UTC. Unknown fields are refused.',
].join(' ');

/** The page runs what this server sent and asks nobody else. */
const pagePolicy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

/** Registers what collects the routes; before the first of them. */
export async function collectRoutes(app: FastifyInstance, version: string): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'Tollkeeper admin API', version, description: describing, license: { name: 'Apache-2.0' } },
      components: {
        schemas: components() as never,
        securitySchemes: {
          adminKey: {
            type: 'http',
            scheme: 'bearer',
            description: '`TOLLKEEPER_ADMIN_KEY`, or a personal admin key',
          },
          session: {
            type: 'apiKey',
            in: 'cookie',
            name: 'tollkeeper_session',
            description: 'as `POST /v1/login` sets it',
          },
        },
      },
      security: [{ adminKey: [] }, { session: [] }],
    },
    hideUntagged: true,
    transform: ({ schema, url, route }) => {
      const { admin } = (route.config ?? {}) as { admin?: AnyRoute };
      return { schema: admin === undefined ? { ...schema, hide: true } : documented(admin), url };
    },
  });
}

/** Serves `/openapi.json` and the page `/docs`; after the last route. */
export async function serveDocument(app: FastifyInstance): Promise<void> {
  app.get('/openapi.json', (_request, reply) => {
    reply.send(app.swagger());
  });
  await app.register(swaggerUi, {
    routePrefix: '/docs',
    staticCSP: pagePolicy,
    uiConfig: { docExpansion: 'list', validatorUrl: null },
  });
}

/** A schema in JSON Schema 2020-12; named ones are referred to. `side`: what is sent, or what is read of it. */
function jsonSchemaOf(schema: z.ZodType, side: 'input' | 'output'): JsonSchema {
  const {
    $schema: _schema,
    $defs: _defs,
    ...rest
  } = z.toJSONSchema(schema, {
    target: 'draft-2020-12',
    io: side,
    metadata: named,
    unrepresentable: 'any',
  }) as JsonSchema;
  return refersToComponents(rest) as JsonSchema;
}

function components(): Record<string, JsonSchema> {
  const { schemas } = z.toJSONSchema(named, { target: 'draft-2020-12', uri: (id) => `#/components/schemas/${id}` });
  return Object.fromEntries(
    Object.entries(schemas).map(([id, { $schema: _schema, $id: _id, id: _name, ...schema }]) => [id, schema]),
  ) as Record<string, JsonSchema>;
}

function refersToComponents(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(refersToComponents);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [
      key,
      key === '$ref' && typeof item === 'string'
        ? item.replace('#/$defs/', '#/components/schemas/')
        : refersToComponents(item),
    ]),
  );
}

function documented(route: AnyRoute): FastifySchema {
  const { answer, params, query, body } = route;
  const headers = headersOf(route);
  return {
    operationId: route.id,
    tags: [route.tag],
    summary: route.summary,
    ...(route.description === undefined ? {} : { description: route.description }),
    ...(route.open === true ? { security: [] } : {}),
    ...(params === undefined ? {} : { params: jsonSchemaOf(params, 'output') }),
    ...(query === undefined ? {} : { querystring: querySchemaOf(query) }),
    ...(body === undefined ? {} : { body: jsonSchemaOf(body, 'input') }),
    ...(headers === undefined ? {} : { headers }),
    response: {
      [answer.status]: {
        description: answer.description,
        ...(answer.schema === undefined
          ? { type: 'null' }
          : {
              content: {
                [answer.contentType ?? 'application/json']: { schema: jsonSchemaOf(answer.schema, 'output') },
              },
            }),
        ...(route.versioned === true ? { headers: { ETag: { type: 'string', description: 'the version' } } } : {}),
      },
      default: {
        description: `Refused, or failed: ${refusalsOf(route).join(', ')} (docs/problems.md)`,
        content: { 'application/problem+json': { schema: jsonSchemaOf(problemSchema, 'output') } },
      },
    },
  };
}

/** The statuses of the problems that a route may answer. */
function refusalsOf({ method, conditional, params, query, body }: AnyRoute): readonly number[] {
  const isRead = method === 'GET';
  const names = params !== undefined || query !== undefined || body !== undefined;
  return [
    400,
    401,
    403,
    ...(names ? [404] : []),
    ...(isRead ? [] : [409]),
    ...(conditional === true ? [412] : []),
    ...(isRead ? [] : [413, 415]),
    421,
    422,
    429,
    500,
    ...(isRead ? [] : [501]),
    503,
  ];
}

/** The types that a query is read as; what has a default need not be sent. */
function querySchemaOf(query: z.ZodObject): JsonSchema {
  const { required: _required, ...schema } = jsonSchemaOf(query, 'output');
  const { required } = jsonSchemaOf(query, 'input');
  return required === undefined ? schema : { ...schema, required };
}

function headersOf({ method, conditional, confirmed, open, repeatable }: AnyRoute): JsonSchema | undefined {
  const properties: Record<string, JsonSchema> = {
    ...(conditional === true
      ? { 'If-Match': text('the ETag that the change was made for; 412 when it is another') }
      : {}),
    ...(method === 'POST' && open !== true && repeatable !== true
      ? { 'Idempotency-Key': text('the request runs once, however often it is sent') }
      : {}),
    ...(confirmed === undefined ? {} : { 'X-Confirm-Password': text('the password once more') }),
  };
  return Object.keys(properties).length === 0 ? undefined : { type: 'object', properties };
}

function text(description: string): JsonSchema {
  return { type: 'string', description };
}
