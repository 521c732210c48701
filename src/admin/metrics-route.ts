/** `/metrics` for Prometheus. It holds no secret and no name of a tenant or token. */
import type { FastifyInstance } from 'fastify';
import { metricsContentType } from '../telemetry/metrics.js';

/** Adds the route; `metrics` answers the text exposition. */
export function registerMetrics(app: FastifyInstance, metrics: () => Promise<string>): void {
  app.get('/metrics', async (_request, reply) => {
    reply.type(metricsContentType);
    return metrics();
  });
}
