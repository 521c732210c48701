/**
 * A process beside the soak: carries the network between the sidecar and what is behind it, so that the load generator's
 * own work delays nobody's bytes, and watches the machine: it asks Redis itself, and notes when Redis or its own
 * event loop stood still. Told by messages; see soak-bystander-process.ts.
 */
import { createHistogram } from 'node:perf_hooks';
import { Redis } from 'ioredis';
import { type FaultProxy, type NetworkFault, startFaultProxy } from '../support/fault-proxy.js';

export type ToBystander =
  | { readonly kind: 'carry'; readonly port: number }
  | { readonly kind: 'fail'; readonly link: number; readonly fault: NetworkFault }
  | { readonly kind: 'watch'; readonly redisPort: number }
  | { readonly kind: 'measure'; readonly isOn: boolean }
  | { readonly kind: 'report' };

export type FromBystander =
  | { readonly kind: 'carried'; readonly port: number }
  | { readonly kind: 'witness'; readonly witness: Witness };

/** What it saw since the last report. */
export interface Witness {
  readonly standstills: readonly Standstill[];
  /** Between two looks of this process while that was measured, at p99, ms; on time it is 10. */
  readonly loopP99Ms: number;
}

/** Times are ms since 1970. */
export interface Standstill {
  readonly what: 'machine' | 'redis';
  readonly fromMs: number;
  readonly toMs: number;
}

/** What is shorter is an ordinary wait, ms. */
const standstillMs = 50;
const lookEveryMs = 10;

const links: FaultProxy[] = [];
const standstills: Standstill[] = [];
/** The event loop is measured at the same times as those of the watched processes: a fault has work for this one too. */
const looks = createHistogram();
let isMeasured = false;
let measuredAt = 0n;

function watch(redisPort: number): void {
  const redis = new Redis({ port: redisPort, host: '127.0.0.1', retryStrategy: () => 100, maxRetriesPerRequest: 0 });
  redis.on('error', () => {});
  const note = (what: Standstill['what'], fromMs: number): void => {
    const toMs = Date.now();
    if (toMs - fromMs >= standstillMs) standstills.push({ what, fromMs, toMs });
  };
  let lookedAtMs = Date.now();
  let isAsking = false;
  setInterval(() => {
    note('machine', lookedAtMs);
    lookedAtMs = Date.now();
    const now = process.hrtime.bigint();
    if (isMeasured && measuredAt > 0n) looks.record(now - measuredAt);
    measuredAt = isMeasured ? now : 0n;
    if (isAsking) return;
    isAsking = true;
    const askedAtMs = Date.now();
    const answered = (): void => {
      isAsking = false;
      note('redis', askedAtMs);
    };
    redis.ping().then(answered, answered);
  }, lookEveryMs);
}

function tell(message: FromBystander): void {
  process.send?.(message);
}

async function hear(message: ToBystander): Promise<void> {
  switch (message.kind) {
    case 'carry': {
      const link = await startFaultProxy({ port: message.port });
      links.push(link);
      return tell({ kind: 'carried', port: link.port });
    }
    case 'fail':
      return links[message.link]?.fail(message.fault);
    case 'watch':
      return watch(message.redisPort);
    case 'measure':
      isMeasured = message.isOn;
      return undefined;
    case 'report':
      return tell({
        kind: 'witness',
        witness: { standstills: standstills.splice(0), loopP99Ms: looks.percentile(99) / 1e6 },
      });
  }
}

process.on('message', (message: ToBystander) => void hear(message));
process.once('disconnect', () => process.exit(0));
