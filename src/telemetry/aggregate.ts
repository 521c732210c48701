/** The metrics of several processes as one, each by its aggregator. */
import { AggregatorRegistry, type MetricObjectWithValues, type MetricValue } from 'prom-client';

/** The metrics of one process as plain data, for a process that aggregates several. */
export type MetricsSnapshot = readonly MetricObjectWithValues<MetricValue<string>>[];

/** The text exposition of several processes as one: counters and histograms are summed. */
export function aggregateExposition(snapshots: readonly MetricsSnapshot[]): Promise<string> {
  return AggregatorRegistry.aggregate(snapshots as unknown as object[]).metrics();
}

/** What of a snapshot stays true when its process is gone: counters and histograms. */
export function lastingPart(snapshot: MetricsSnapshot): MetricsSnapshot {
  // The declarations say that a type is a number; it is its name.
  return snapshot.filter(({ type }) => ['counter', 'histogram'].includes(String(type)));
}

/** Several snapshots as one, each metric by its aggregator. */
export function sumSnapshots(snapshots: readonly MetricsSnapshot[]): Promise<MetricsSnapshot> {
  return AggregatorRegistry.aggregate(snapshots as unknown as object[]).getMetricsAsJSON();
}
