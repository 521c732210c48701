/** What a thrown error is answered with: the one place where errors of the layers below become statuses. */
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import { OperatorError } from '../core/failure.js';
import { NotConfirmedError, StoreUnavailableError } from '../redis/store.js';
import {
  ConflictError,
  DraftError,
  ForbiddenError,
  NotConfiguredError,
  NotFoundError,
  VersionConflictError,
} from '../tenant/refusal.js';
import type { Logger } from '../telemetry/logger.js';
import { AdminRefusal, sendAdminProblem } from './problem.js';

/** Answers `error`; what is a fault of ours is logged with the id of the request. */
export function sendError(error: unknown, request: FastifyRequest, reply: FastifyReply, logger: Logger): void {
  if (error instanceof AdminRefusal) {
    if (error.retryAfterS > 0) reply.header('retry-after', error.retryAfterS);
    return sendAdminProblem(reply, error.slug, error.message);
  }
  if (error instanceof DraftError) {
    return sendAdminProblem(reply, 'invalid-fields', error.message, { errors: error.faults });
  }
  if (error instanceof NotFoundError) return sendAdminProblem(reply, 'not-found', error.message);
  if (error instanceof ForbiddenError) return sendAdminProblem(reply, 'role-required', error.message);
  if (error instanceof VersionConflictError) return sendAdminProblem(reply, 'version-conflict', error.message);
  if (error instanceof ConflictError) return sendAdminProblem(reply, 'conflict', error.message);
  if (error instanceof StoreUnavailableError) {
    logger.warn({ err: error, requestId: request.id }, 'the admin plane cannot ask Redis');
    reply.header('retry-after', 1);
    const slug = error instanceof NotConfirmedError ? 'change-not-confirmed' : 'admin-store-unavailable';
    return sendAdminProblem(reply, slug, error.message);
  }
  if (error instanceof NotConfiguredError) return sendAdminProblem(reply, 'not-configured', error.message);
  const { statusCode, code } = error as Partial<FastifyError>;
  if (statusCode !== undefined && statusCode < 500) return sendUnreadable(reply, statusCode, code ?? '');
  logger.error({ err: error, requestId: request.id }, 'the admin plane failed to answer');
  // The sentence for an operator holds no secret; anything else may.
  if (error instanceof OperatorError) return sendAdminProblem(reply, 'internal-error', error.message);
  sendAdminProblem(reply, 'internal-error', 'Look for the request id in the log of Tollkeeper.');
}

/** Fastify's own refusals; its words may repeat what the client sent, its code does not. */
function sendUnreadable(reply: FastifyReply, status: number, code: string): void {
  if (status === 413) return sendAdminProblem(reply, 'content-too-large', 'Send a smaller body.');
  if (status === 415) return sendAdminProblem(reply, 'unsupported-content', 'Send JSON as application/json.');
  if (code === 'FST_ERR_CTP_INVALID_JSON_BODY') {
    const detail = 'The body is no JSON, or has a field named __proto__ or constructor.prototype.';
    return sendAdminProblem(reply, 'unreadable-request', detail);
  }
  sendAdminProblem(reply, 'unreadable-request', `The request could not be read (${code}).`);
}
