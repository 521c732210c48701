import { readFileSync } from 'node:fs';
import type { Logger } from '../telemetry/logger.js';

/** See src/dataplane/port.ts: without it Linux may reset a connection in the moment in which a process stops to listen. */
export function adviseKernelSetting(logger: Logger): void {
  try {
    if (readFileSync('/proc/sys/net/ipv4/tcp_migrate_req', 'utf8').trim() !== '0') return;
    logger.warn(
      'set sysctl net.ipv4.tcp_migrate_req=1: else a new connection may be reset when a process leaves a shared port',
    );
  } catch {
    // Not Linux, or an old one: nothing to set.
  }
}
