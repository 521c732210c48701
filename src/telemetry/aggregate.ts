/** The metrics of several processes as one, each by its aggregator. */
import { AggregatorRegistry } from 'prom-client';
import type { Sample } from './cells.js';

/** One metric with its samples, as prom-client hands it out and takes it (its declarations call the type a number). */
export interface MetricSamples {
  readonly name: string;
  readonly help: string;
  readonly type: string;
  readonly aggregator: string;
  readonly values: readonly Sample[];
}

/** The metrics of one process as plain data, for a process that aggregates several. */
export type MetricsSnapshot = readonly MetricSamples[];

/** The text exposition of several processes as one: counters and histograms are summed. */
export function aggregateExposition(snapshots: readonly MetricsSnapshot[]): Promise<string> {
  return AggregatorRegistry.aggregate(snapshots as unknown as object[]).metrics();
}

/** What of a snapshot stays true when its process is gone: counters and histograms. */
export function lastingPart(snapshot: MetricsSnapshot): MetricsSnapshot {
  return snapshot.filter(({ type }) => ['counter', 'histogram'].includes(type));
}

/** Several snapshots as one, each metric by its aggregator. */
export async function sumSnapshots(snapshots: readonly MetricsSnapshot[]): Promise<MetricsSnapshot> {
  const registry = AggregatorRegistry.aggregate(snapshots as unknown as object[]);
  return (await registry.getMetricsAsJSON()) as unknown as MetricsSnapshot;
}
