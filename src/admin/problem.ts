import type { FastifyReply } from 'fastify';

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
