import type { FastifyReply } from 'fastify';
import { type AdminProblemSlug, adminProblems } from '../core/admin-problems.js';

/**
 * Sends RFC 9457 `application/problem+json`. Without a `type` it is `about:blank`: nothing more to say than the status.
 * `detail` holds no secret and nothing that the client sent.
 */
export function sendProblem(
  reply: FastifyReply,
  status: number,
  title: string,
  detail: string,
  extra: Readonly<Record<string, unknown>> = {},
): void {
  const body = { type: 'about:blank', title, status, detail, instance: reply.request.id, ...extra };
  // Bytes, so that no serializer and no charset parameter (JSON has none) is added.
  reply
    .code(status)
    .header('content-type', 'application/problem+json')
    .header('x-request-id', reply.request.id)
    .send(Buffer.from(JSON.stringify(body)));
}

/** A refusal of the admin API, thrown where it is found and answered by the error handler. */
export class AdminRefusal extends Error {
  readonly slug: AdminProblemSlug;
  /** Whole seconds for `Retry-After`; 0 leaves the header out. */
  readonly retryAfterS: number;

  constructor(slug: AdminProblemSlug, detail: string, retryAfterS = 0) {
    super(detail);
    this.slug = slug;
    this.retryAfterS = retryAfterS;
  }
}

/** Sends one of the admin API's own problems. */
export function sendAdminProblem(
  reply: FastifyReply,
  slug: AdminProblemSlug,
  detail: string,
  extra: Readonly<Record<string, unknown>> = {},
): void {
  const { status, title, challenge } = adminProblems[slug] as {
    readonly status: number;
    readonly title: string;
    readonly challenge?: string;
  };
  if (challenge !== undefined) {
    const error = challenge === '' ? '' : `, error="${challenge}"`;
    reply.header('www-authenticate', `Bearer realm="tollkeeper-admin"${error}`);
  }
  sendProblem(reply, status, title, detail, { type: `https://tollkeeper.dev/problems/${slug}`, ...extra });
}
