/** `/healthz`: this process runs. `/readyz`: it can decide about requests, or why not. Neither asks anything itself. */
import type { FastifyInstance } from 'fastify';
import { problems } from '../core/problems.js';
import { sendProblem } from './problem.js';

export interface ReadinessReport {
  readonly ready: boolean;
  /** One sentence each for the operator; empty when ready. */
  readonly reasons: readonly string[];
  /** What endangers the installation and refuses nothing yet. */
  readonly warnings: readonly string[];
}

/** Adds both routes. */
export function registerHealth(app: FastifyInstance, readiness: () => ReadinessReport): void {
  app.get('/healthz', (_request, reply) => {
    reply.send({ status: 'ok' });
  });
  app.get('/readyz', (_request, reply) => {
    const { ready, reasons, warnings } = readiness();
    const warned = warnings.length > 0 ? { warnings } : {};
    if (ready) {
      reply.send({ status: 'ready', ...warned });
      return;
    }
    const { slug } = problems['store-unavailable'];
    const type = `https://tollkeeper.dev/problems/${slug}`;
    sendProblem(reply, 503, 'Tollkeeper is not ready', reasons.join(' '), { type, reasons, ...warned });
  });
}
