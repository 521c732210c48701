/** What of the configuration decides about a request. */
import type { Config } from '../config/schema.js';
import type { PipelineSettings } from './pipeline.js';

export function pipelineSettings(config: Omit<Config, 'policy'>): PipelineSettings {
  return {
    scheme: config.tlsCert === undefined || config.tlsKey === undefined ? 'http' : 'https',
    tokenPrefix: config.tokenPrefix,
    foreignTokens: config.foreignTokens,
    tenantHost: config.tenantHost ?? '',
    wellKnown: config.wellKnown,
    bodyBytesMax: config.bodyMaxBytes,
    hmacBodyBytesMax: config.hmacMaxBody,
    logQuery: config.logQuery,
    onStoreOutage: config.onStoreOutage,
  };
}
