/** What the pipeline puts in order. */
import type { AdmissionGate } from '../admission/gate.js';
import type { OutageLimits } from '../admission/outage.js';
import type { AccessLog } from '../accesslog/writer.js';
import type { AuthFailures } from '../credential/auth-failures.js';
import type { HmacSecrets } from '../credential/hmac-secrets.js';
import type { AddressList, TrustedProxies } from '../http/forwarded.js';
import type { Logger } from '../telemetry/logger.js';
import type { Metrics } from '../telemetry/metrics.js';
import type { RecordCache } from '../token/cache.js';
import type { ForeignIds } from '../token/foreign-lookup.js';
import type { Upstream } from '../upstream/upstream.js';
import type { Overload } from './overload.js';
import type { PipelineSettings } from './settings.js';

export interface PipelineParts {
  readonly settings: PipelineSettings;
  readonly trustedProxies: TrustedProxies;
  readonly addresses: AddressList;
  readonly failures: AuthFailures;
  readonly cache: RecordCache;
  readonly secrets: HmacSecrets;
  readonly admission: AdmissionGate;
  readonly outage: OutageLimits;
  readonly overload: Overload;
  /** Undefined where nothing is forwarded: the data plane does not listen. */
  readonly upstream: Upstream | undefined;
  readonly log: AccessLog;
  readonly metrics: Metrics;
  readonly logger: Logger;
  /** Ids of imported tokens by the SHA-256 of what is presented. */
  readonly foreignIds: ForeignIds;
}
