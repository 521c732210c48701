/** One route of the admin API as a resource declares it; `AdminApi` gives it to Fastify and to the OpenAPI document. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { Operations } from '../management/operations.js';
import type { Principal } from '../management/principal.js';
import type { Page } from '../tenant/repository.js';

/** What a handler gets: everything checked, and nothing done yet. */
export interface Call<P, Q, B> {
  readonly principal: Principal;
  /** What this principal can do; refuses the rest by itself. */
  readonly operations: Operations;
  readonly params: P;
  readonly query: Q;
  readonly body: B;
  /** Version that `If-Match` asks for; undefined without the header. */
  readonly ifVersion: number | undefined;
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
}

export interface RouteDefinition<P extends z.ZodObject, Q extends z.ZodObject, B extends z.ZodType> {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  /** Below `/v1`, `/tenants/{tenant}`. */
  readonly path: string;
  /** `operationId` of the OpenAPI document; unique. */
  readonly id: string;
  readonly tag: string;
  /** One sentence. */
  readonly summary: string;
  readonly description?: string;
  /** Open without a credential. */
  readonly open?: true;
  /** The password is asked for again (confirmation.ts): `session` of sessions, `person` also with a personal key. */
  readonly confirmed?: 'session' | 'person';
  /** A POST that changes nothing, or must run anew: `Idempotency-Key` does not apply. */
  readonly repeatable?: true;
  /** With `If-Match` (RFC 9110). */
  readonly conditional?: true;
  /** The answer holds a secret: it is kept for a repeated Idempotency-Key only where it can be encrypted. */
  readonly secret?: true;
  readonly params?: P;
  readonly query?: Q;
  readonly body?: B;
  /** Of the answer when all went well; without a schema there is no body. */
  readonly answer: {
    readonly status: 200 | 201 | 204;
    readonly schema?: z.ZodType;
    readonly description: string;
    /** `application/json` unless it is another; the handler then answers a string or a stream, or takes the reply over. */
    readonly contentType?: string;
  };
  /** The answer has a `version`, which is its `ETag` too. */
  readonly versioned?: true;
  // A method, so that routes of different shapes fit into one list.
  handle(call: Call<z.output<P>, z.output<Q>, z.output<B>>): Promise<unknown>;
}

export type AnyRoute = RouteDefinition<z.ZodObject, z.ZodObject, z.ZodType>;

/** Gives the handler of a route the types of its schemas. */
export function route<
  P extends z.ZodObject = z.ZodObject<Record<string, z.ZodNever>>,
  Q extends z.ZodObject = z.ZodObject<Record<string, z.ZodNever>>,
  B extends z.ZodType = z.ZodUndefined,
>(definition: RouteDefinition<P, Q, B>): AnyRoute {
  return definition;
}

const count = (max: number, fallback: number) =>
  z
    .string()
    .regex(/^[1-9]\d{0,8}$/, 'must be a whole number from 1')
    .transform(Number)
    .pipe(z.int().min(1).max(max))
    .default(fallback);

/** `page` and `per_page` of every list. */
export const pageQuery = { page: count(1_000_000, 1), per_page: count(100, 25) };

/** The page that a query with {@link pageQuery} asks for. */
export function pageOf(query: { readonly page: number; readonly per_page: number }): Page {
  return { page: query.page, perPage: query.per_page };
}
