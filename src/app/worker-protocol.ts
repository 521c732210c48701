/**
 * What the primary and a worker say to each other, over the channel that `fork` opens. Nothing goes by command line or
 * environment, which others on the machine may read: the configuration holds secrets.
 */
import type { MetricsSnapshot } from '../telemetry/aggregate.js';
import { Policy } from '../policy/routes.js';
import type { DataProcessConfig, ServingAddresses } from './data-process.js';
import type { ReadinessReport } from './readiness.js';

/** A policy as plain data, already judged. */
export type PolicyData = Pick<Policy, 'defaultAllow' | 'scopes' | 'rules'>;

export type ToWorker =
  /** First, once. `number` tells workers apart in the log. */
  | { readonly kind: 'start'; readonly number: number; readonly config: DataProcessConfig; readonly policy: PolicyData }
  /** Asks for an answer of the same `ask`, as `snapshot` does. */
  | { readonly kind: 'policy'; readonly ask: number; readonly policy: PolicyData }
  | { readonly kind: 'snapshot'; readonly ask: number }
  /** Drain and end; `lingering`: others serve the port, so no connection may be cut. */
  | { readonly kind: 'leave'; readonly lingering: boolean };

export type FromWorker =
  | { readonly kind: 'listening'; readonly addresses: ServingAddresses }
  /** It cannot start, and ends. */
  | { readonly kind: 'failed'; readonly message: string; readonly exitCode: 1 | 2 }
  /** Every {@link reportEveryMs}, from the first moment on: also the sign of life. */
  | { readonly kind: 'report'; readonly report: ReadinessReport | undefined }
  | { readonly kind: 'answer'; readonly ask: number; readonly snapshot?: MetricsSnapshot }
  /** The last word of a worker that drained: everything it counted. */
  | { readonly kind: 'left'; readonly snapshot: MetricsSnapshot | undefined };

export const reportEveryMs = 250;

export function policyData({ defaultAllow, scopes, rules }: Policy): PolicyData {
  return { defaultAllow, scopes, rules };
}

export function policyOf({ defaultAllow, scopes, rules }: PolicyData): Policy {
  return new Policy(defaultAllow, scopes, rules);
}
