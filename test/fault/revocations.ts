/** Revokes tokens while primaries are killed, and says which revocations did not survive. */
import { StoreUnavailableError } from '../../src/redis/store.js';
import { until } from '../support/until.js';
import type { FailoverRig } from './failover-rig.js';

export interface RevocationTally {
  /** Answered as done. */
  confirmed: number;
  /** Answered with a failure that is 503 in the API. */
  unconfirmed: number;
  /** Ids of tokens whose revocation was answered as done and that were not refused as revoked afterwards. */
  readonly lost: string[];
  /** From each election to the first 200, ms. */
  readonly backMs: number[];
}

/** What comes after a kill. */
export interface Failover {
  /** Answers when another primary has taken over. */
  elected(): Promise<void>;
  /** Brings the killed one back, and answers when all are in step. */
  restore(): Promise<void>;
}

/**
 * `rounds` failovers. Each kills the primary of a tenant right after a first revocation was answered and while a second
 * one is under way, waits until another one has taken over, and asks for both tokens.
 * @param kill kills the primary that holds the tenant.
 */
export async function loseAndKeepRevocations(
  rig: FailoverRig,
  rounds: number,
  kill: (tenant: string) => Promise<Failover>,
): Promise<RevocationTally> {
  const tally: RevocationTally = { confirmed: 0, unconfirmed: 0, lost: [], backMs: [] };
  for (let round = 0; round < rounds; round += 1) {
    const tenant = `failover-${round % 8}`;
    // A command opens a connection of its own, and finds the primary of this moment.
    const { store, tokens } = await rig.open();
    const [first, second, witness] = [
      await rig.token(tenant, {}, tokens),
      await rig.token(tenant, {}, tokens),
      await rig.token(tenant, {}, tokens),
    ];
    const outcome = async (id: string): Promise<boolean> => {
      try {
        await tokens.revoke(id);
        return true;
      } catch (error) {
        if (!(error instanceof StoreUnavailableError)) throw error;
        return false;
      }
    };
    const isFirstConfirmed = await outcome(first.record.id);
    const secondOutcome = outcome(second.record.id);
    const failover = await kill(tenant);
    const isSecondConfirmed = await secondOutcome;
    await failover.elected();
    const electedAtMs = performance.now();
    await until(async () => (await rig.send(witness.secret)).status === 200);
    tally.backMs.push(performance.now() - electedAtMs);
    const answers = [
      { ...first, isConfirmed: isFirstConfirmed },
      { ...second, isConfirmed: isSecondConfirmed },
    ];
    for (const { record, secret, isConfirmed } of answers) {
      if (isConfirmed) tally.confirmed += 1;
      else tally.unconfirmed += 1;
      const { slug } = await rig.send(secret);
      if (isConfirmed && slug !== 'token-revoked') tally.lost.push(record.id);
    }
    await failover.restore();
    await store.close();
  }
  return tally;
}
