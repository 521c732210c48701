/** Backoff of connections, Sentinels and Clusters, ms: 40, 80, … 500, spread a little. `attempt` counts from 1. */
export function reconnectDelayMs(attempt: number): number {
  return Math.min(20 * 2 ** Math.min(attempt, 10), 500) + Math.floor(Math.random() * 20);
}
