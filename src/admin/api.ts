/**
 * The admin API: every route of the resources below `/v1`, and what holds for all of them.
 *
 * In order: the credential (before a body is read), the limit on requests, the body (64 KiB of JSON), the schemas
 * (unknown fields are refused), the handler, which finds in `operations` only what its principal may do.
 */
import cookie from '@fastify/cookie';
import rateLimit from '@fastify/rate-limit';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { OperatorError } from '../core/failure.js';
import type { Management } from '../management/management.js';
import type { Principal } from '../management/principal.js';
import { NotConfirmedError } from '../redis/store.js';
import { parseInput } from '../tenant/parse-input.js';
import { NotFoundError } from '../tenant/refusal.js';
import type { Session } from '../user/session.js';
import type { Logger } from '../telemetry/logger.js';
import { auditRoutes } from './audit.js';
import { requireConfirmation } from './confirmation.js';
import { sendError } from './errors.js';
import { type ExplainRequests, explainRoutes } from './explain.js';
import type { IdempotentRequests, KeptAnswer } from './idempotency.js';
import { collectRoutes, serveDocument } from './openapi.js';
import { logRoutes } from './logs.js';
import { AdminRefusal, sendProblem } from './problem.js';
import type { Records } from './records.js';
import type { AnyRoute, Call } from './route.js';
import { scopeRoutes } from './scopes.js';
import { sessionRoutes, type SessionParts } from './sessions.js';
import { tenantRoutes } from './tenants.js';
import { tokenRoutes } from './tokens.js';
import { usageRoutes } from './usage.js';
import { userRoutes } from './users.js';

declare module 'fastify' {
  interface FastifyRequest {
    /** Set before anything of a route of the API runs, except of open ones. */
    principal: Principal | null;
    /** Of a principal who logged in. */
    session: Session | null;
  }
  interface FastifyContextConfig {
    admin?: AnyRoute;
  }
}

export interface AdminApiParts extends SessionParts {
  readonly idempotent: IdempotentRequests;
  readonly explain: ExplainRequests;
  /** The scopes of the policy in force. */
  readonly scopes: () => readonly string[];
  /** Logs and usage. */
  readonly records: Records;
  /** Requests a minute and principal; 0 sets no limit. */
  readonly requestsPerMinute: number;
  readonly version: string;
  readonly logger: Logger;
}

const bodyBytesMax = 65_536;
const nothing = z.strictObject({});
const methods = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'] as const;

/** Every route there is; a further resource is one line here. */
function routesOf(parts: AdminApiParts): readonly AnyRoute[] {
  return [
    ...tenantRoutes,
    ...tokenRoutes,
    ...scopeRoutes(parts.scopes),
    ...explainRoutes(parts.explain),
    ...auditRoutes,
    ...usageRoutes(parts.records),
    ...logRoutes(parts.records, parts.authenticator),
    ...userRoutes,
    ...sessionRoutes(parts),
  ];
}

/** Adds the API, its document and the page that shows it. */
export async function registerApi(app: FastifyInstance, parts: AdminApiParts): Promise<void> {
  await collectRoutes(app, parts.version);
  const routes = routesOf(parts);
  await app.register(
    async (scope) => {
      await prepare(scope, parts);
      for (const definition of routes) addRoute(scope, definition, parts);
      refuseOtherMethods(scope, routes);
    },
    { prefix: '/v1' },
  );
  await serveDocument(app);
}

async function prepare(scope: FastifyInstance, parts: AdminApiParts): Promise<void> {
  await scope.register(cookie);
  scope.decorateRequest('principal', null);
  scope.decorateRequest('session', null);
  scope.removeContentTypeParser('text/plain');
  readBodies(scope);
  scope.setErrorHandler((error, request, reply) => {
    sendError(error, request, reply, parts.logger);
  });
  scope.setValidatorCompiler(({ schema, httpPart }) => validator(schema as z.ZodType, httpPart));
  scope.setSerializerCompiler(() => JSON.stringify);
  scope.addHook('onRequest', async (request) => {
    const { admin } = request.routeOptions.config;
    if (admin === undefined || admin.open === true) return;
    const { principal, session = null } = await parts.authenticator.authenticate(request);
    request.principal = principal;
    request.session = session;
  });
  scope.addHook('preHandler', async (request) => {
    const { admin } = request.routeOptions.config;
    const { management, attempts } = parts;
    if (admin !== undefined) await requireConfirmation(request, admin, { users: management.users, attempts });
  });
  if (parts.requestsPerMinute === 0) return;
  await scope.register(rateLimit, {
    // Behind the credential: who has none was refused already.
    hook: 'preParsing',
    max: parts.requestsPerMinute,
    timeWindow: 60_000,
    keyGenerator: (request) => {
      const { principal } = request;
      return principal === null ? parts.authenticator.addressOf(request) : `${principal.kind} ${principal.name}`;
    },
    errorResponseBuilder: (_request, { ttl }) =>
      new AdminRefusal('too-many-requests', 'Too many requests of this principal.', Math.ceil(ttl / 1000)),
  });
}

/** JSON. Clients that always name its type send it also without a body. */
function readBodies(scope: FastifyInstance): void {
  const parse = scope.getDefaultJsonParser('error', 'error');
  scope.removeContentTypeParser('application/json');
  scope.addContentTypeParser<string>('application/json', { parseAs: 'string' }, (request, text, done) => {
    if (text === '') done(null, undefined);
    else void parse(request, text, done);
  });
}

function validator(schema: z.ZodType, httpPart: string | undefined) {
  return (input: unknown) => {
    try {
      return { value: parseInput(schema, input ?? {}) };
    } catch (error) {
      // A path that names nothing possible names nothing that is there.
      return { error: httpPart === 'params' ? new NotFoundError('There is no such thing.') : (error as Error) };
    }
  };
}

function addRoute(scope: FastifyInstance, definition: AnyRoute, parts: AdminApiParts): void {
  const { method, path, params, query, body, answer } = definition;
  scope.route({
    method,
    url: urlOf(path),
    bodyLimit: bodyBytesMax,
    config: { admin: definition },
    schema: {
      ...(params === undefined ? {} : { params }),
      querystring: query ?? nothing,
      ...(method === 'GET' ? {} : { body: body ?? nothing }),
    },
    handler: async (request, reply) => {
      const run = (): Promise<KeptAnswer> => answerOf(definition, request, reply, parts.management);
      const { status, etag, body: result } = await once(definition, request, reply, run, parts);
      // Taken over by the handler: a stream of its own.
      if (reply.sent) return reply;
      if (etag !== null) reply.header('etag', etag);
      if (answer.contentType !== undefined) reply.type(answer.contentType);
      return reply.code(status).send(result);
    },
  });
}

async function answerOf(
  definition: AnyRoute,
  request: FastifyRequest,
  reply: FastifyReply,
  management: Management,
): Promise<KeptAnswer> {
  const { principal } = request;
  const call = {
    principal,
    // An open route has no principal and asks for nothing that needs one.
    operations: principal === null ? undefined : management.as(principal),
    params: request.params,
    query: request.query,
    body: request.body,
    ifVersion: definition.conditional === true ? ifVersionOf(request) : undefined,
    request,
    reply,
  };
  const body = await definition.handle(call as Call<Record<string, unknown>, Record<string, unknown>, unknown>);
  const etag = definition.versioned === true ? `"${(body as { version: number }).version}"` : null;
  return { status: definition.answer.status, etag, body: definition.answer.schema === undefined ? undefined : body };
}

/** Runs a request, or answers again what its first run answered, where it has an `Idempotency-Key`. */
async function once(
  { method, repeatable, secret }: AnyRoute,
  request: FastifyRequest,
  reply: FastifyReply,
  run: () => Promise<KeptAnswer>,
  { idempotent, logger }: AdminApiParts,
): Promise<KeptAnswer> {
  const { principal } = request;
  const key = request.headers['idempotency-key'];
  if (key === undefined || method !== 'POST' || repeatable === true || principal === null) return run();
  const subject = `${request.url}\n${JSON.stringify(request.body ?? {})}`;
  const first = await idempotent.begin(principal, String(key), subject);
  if ('status' in first) {
    reply.header('idempotent-replayed', 'true');
    return first;
  }
  try {
    const answer = await run();
    await first.finished(answer, secret === true).catch((error: unknown) => {
      // The change is made and must be answered; a repeat will be told that its outcome is not known.
      logger.warn({ err: error, requestId: request.id }, 'the answer of an Idempotency-Key could not be kept');
    });
    return answer;
  } catch (error) {
    const isKnown = error instanceof OperatorError || error instanceof AdminRefusal;
    if (isKnown && !(error instanceof NotConfirmedError)) await first.refused().catch(() => {});
    throw error;
  }
}

/** Every other method of a path: 405, and what would be right. */
function refuseOtherMethods(scope: FastifyInstance, routes: readonly AnyRoute[]): void {
  for (const path of new Set(routes.map((definition) => definition.path))) {
    const allowed = new Set<string>(routes.filter((other) => other.path === path).map(({ method }) => method));
    const allow = [...allowed].flatMap((method) => (method === 'GET' ? [method, 'HEAD'] : [method])).join(', ');
    scope.route({
      method: methods.filter((method) => !allowed.has(method)),
      url: urlOf(path),
      handler: (_request, reply) => {
        reply.header('allow', allow);
        sendProblem(reply, 405, 'Method Not Allowed', `Use one of: ${allow}.`);
      },
    });
  }
}

function urlOf(path: string): string {
  return path.replaceAll(/\{(\w+)\}/g, ':$1');
}

/** The version in `If-Match` (RFC 9110, 13.1.1); one that was never ours matches none. */
function ifVersionOf(request: FastifyRequest): number | undefined {
  const ifMatch = request.headers['if-match'];
  if (ifMatch === undefined || ifMatch.trim() === '*') return undefined;
  return Number(/^"(\d{1,15})"$/.exec(ifMatch.trim())?.[1] ?? -1);
}
