/** One body of 1 GiB through Tollkeeper, up or down: is it whole, and does memory stay where it was? */
import type { Redis } from 'ioredis';
import type { BodyExchange } from '../harness/body-client.js';
import { scriptArgs, startNode } from '../harness/node-child.js';
import { patternCrc } from '../harness/pattern.js';
import { cpuUs, forgetPeak, peakBytes, rssBytes } from '../harness/proc.js';
import { runReporting } from '../harness/reporting-child.js';
import type { Stage } from '../harness/stage.js';
import { clearTraces, countLog, startTollkeeper } from '../harness/tollkeeper.js';

export interface BodyResult {
  readonly scenario: string;
  readonly bytes: number;
  readonly seconds: number;
  /** CPU of Tollkeeper. */
  readonly cpuSeconds: number;
  readonly rssBeforeBytes: number;
  /** Highest resident memory during the transfer, less what it was before. */
  readonly rssGrowthBytes: number;
  readonly rssGrowthTargetBytes: number;
  readonly faults: readonly string[];
}

export const bodyScenarios = ['proxy-body-up-1g', 'proxy-body-down-1g'] as const;
export type BodyScenario = (typeof bodyScenarios)[number];

const upstreamScript = new URL('../harness/body-upstream.ts', import.meta.url);
const clientScript = new URL('../harness/body-client.ts', import.meta.url);
const bodyBytes = 2 ** 30;
const rssGrowthTargetBytes = 64 * 2 ** 20;
/** Small transfers before, so that code is loaded and compiled. */
const warmups = 20;
const warmupBytes = 2 ** 20;
const transferDeadlineMs = 180_000;

/** Carries the body once. Never throws: what goes wrong is a fault of the result. */
export async function carryBody(scenario: BodyScenario, stage: Stage): Promise<BodyResult> {
  try {
    return await carry(scenario, stage);
  } catch (error) {
    const faults = [error instanceof Error ? error.message : String(error)];
    const nothing = { bytes: bodyBytes, seconds: 0, cpuSeconds: 0, rssBeforeBytes: 0, rssGrowthBytes: 0 };
    return { scenario, ...nothing, rssGrowthTargetBytes, faults };
  }
}

async function carry(scenario: BodyScenario, stage: Stage): Promise<BodyResult> {
  const isUpload = scenario === 'proxy-body-up-1g';
  const store = await stage.store();
  const [token = ''] = store.unlimited;
  const upstream = await startNode(scriptArgs(upstreamScript), { core: stage.cores.upstream, planes: ['data'] });
  const options = { profileDir: undefined, upstream: upstream.origin('data') };
  const tollkeeper = await startTollkeeper(stage, options).catch(async (error: unknown) => {
    await upstream.stop();
    throw error;
  });
  try {
    await clearTraces(store);
    const transfer = (bytes: number): Promise<BodyExchange> => {
      const path = isUpload ? '/api/v1/uploads' : `/api/v1/products/42?bytes=${bytes}`;
      const args = [isUpload ? 'up' : 'down', tollkeeper.origin('data'), path, token, String(bytes)];
      return runReporting(clientScript, args, stage.cores.load, transferDeadlineMs);
    };
    const faults: string[] = [];
    for (let each = 0; each < warmups; each++) {
      faults.push(...transferFaults(await transfer(warmupBytes), isUpload, warmupBytes));
    }
    const { pid } = tollkeeper;
    forgetPeak(pid);
    const [rssBeforeBytes, cpuBeforeUs] = [rssBytes(pid), cpuUs(pid)];
    const exchange = await transfer(bodyBytes);
    const [peak, cpuAfterUs] = [peakBytes(pid), cpuUs(pid)];
    faults.push(...transferFaults(exchange, isUpload, bodyBytes));
    const logged = await countLog(store, warmups + 1, 10_000);
    if (logged !== warmups + 1) faults.push(`${logged} log entries for ${warmups + 1} requests`);
    faults.push(...(await logFaults(store.redis, isUpload ? 'bytesIn' : 'bytesOut')));
    return {
      scenario,
      bytes: bodyBytes,
      seconds: exchange.seconds,
      cpuSeconds: (cpuAfterUs - cpuBeforeUs) / 1e6,
      rssBeforeBytes,
      rssGrowthBytes: Math.max(0, peak - rssBeforeBytes),
      rssGrowthTargetBytes,
      faults: [...new Set(faults)],
    };
  } finally {
    await Promise.allSettled([tollkeeper.stop(), upstream.stop()]);
  }
}

/** Whether all bytes arrived as they were sent. */
function transferFaults(exchange: BodyExchange, isUpload: boolean, bytes: number): string[] {
  if (exchange.status !== 200) return [`status ${exchange.status}: ${exchange.text}`];
  const arrived = isUpload ? (JSON.parse(exchange.text) as { bytes: number; crc: number }) : exchange;
  if (arrived.bytes !== bytes) return [`${arrived.bytes} of ${bytes} bytes arrived`];
  return arrived.crc === patternCrc(bytes) ? [] : ['the bytes that arrived are not those that were sent'];
}

/** The largest entry of the access log must say how long the body was. */
async function logFaults(redis: Redis, field: 'bytesIn' | 'bytesOut'): Promise<string[]> {
  let largest = 0;
  for (const key of await redis.keys('log:*')) {
    for (const [, pairs] of await redis.xrange(key, '-', '+')) {
      largest = Math.max(largest, Number(pairs[pairs.indexOf(field) + 1]));
    }
  }
  return largest === bodyBytes ? [] : [`the access log says ${field} ${largest}, not ${bodyBytes}`];
}
