/** A restart of all workers while clients open a connection for every request. */
import { type FreshFailure, freshLoad } from './fresh-connections.js';
import { startInstallation } from './installation.js';

export interface RollingRestart {
  readonly statuses: Readonly<Record<number, number>>;
  readonly failures: readonly FreshFailure[];
}

/** Starts two workers, restarts them `rounds` times under load, and answers what the clients saw. */
export async function rollingRestartUnderLoad(rounds: number): Promise<RollingRestart> {
  const installation = await startInstallation();
  try {
    await installation.tenant('acme');
    const token = await installation.token('acme', '--limit', '1000000');
    const sidecar = await installation.sidecar({
      env: { TOLLKEEPER_WORKERS: '2', TOLLKEEPER_REDIS_COMMAND_TIMEOUT_MS: '20000' },
    });
    const load = freshLoad(`${sidecar.dataUrl}/api/v1/products`, token.secret, 6);
    await load.more(100);
    for (let round = 1; round <= rounds; round += 1) {
      sidecar.signal('SIGUSR2');
      const restarts = (): number => sidecar.logs().filter(({ msg }) => msg === 'all workers were restarted').length;
      await sidecar.logged(() => restarts() === round);
      await load.more(100);
    }
    await load.stop();
    return { statuses: load.statuses, failures: load.failures };
  } finally {
    await installation.stop();
  }
}
