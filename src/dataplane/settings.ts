/** What of the configuration decides about a request. */
import type { Config } from '../config/schema.js';
import type { CredentialOptions } from '../credential/extract.js';
import type { OutageMode } from '../policy/routes.js';

export interface PipelineSettings extends CredentialOptions {
  /** What the data plane's own listener speaks. */
  readonly scheme: 'http' | 'https';
  readonly tenantHost: string;
  /** Answer callers that ask about themselves. */
  readonly wellKnown: boolean;
  /** Most bytes a body may have, 0 for no limit. */
  readonly bodyBytesMax: number;
  readonly hmacBodyBytesMax: number;
  readonly logQuery: boolean;
  /** For routes that do not say otherwise. */
  readonly onStoreOutage: OutageMode;
}

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
