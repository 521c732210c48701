/** Stage 3 for imported tokens, which are known by their hash alone: the id behind it is asked for once and kept. */
import type { Denial } from '../core/problems.js';
import { type BearerCredential, invalidToken } from '../credential/extract.js';
import { blockedDenial, failedAttempt } from './attempts.js';
import type { Exchange } from './exchange.js';
import type { PipelineParts } from './pipeline-parts.js';
import { storeAway } from './refusals.js';

/** Where a request goes on. */
export interface ForeignTokenOwner {
  /** Its credential is now a Bearer one with an id. */
  decide(exchange: Exchange): void;
  refuseLater(exchange: Exchange, denial: Denial): void;
}

export class ForeignTokens {
  readonly #owner: ForeignTokenOwner;
  readonly #parts: Pick<PipelineParts, 'cache' | 'failures' | 'foreignIds'>;

  constructor(owner: ForeignTokenOwner, parts: Pick<PipelineParts, 'cache' | 'failures' | 'foreignIds'>) {
    this.#owner = owner;
    this.#parts = parts;
  }

  /** `digest`: SHA-256 of the presented token. */
  resolve(exchange: Exchange, digest: Buffer): void {
    const { cache, failures, foreignIds } = this.#parts;
    const digestHex = digest.toString('hex');
    const use = (id: string): void => {
      exchange.credential = { kind: 'bearer', id, digest };
      this.#owner.decide(exchange);
    };
    const known = cache.foreignId(digestHex);
    exchange.foreignFromCache = known !== undefined;
    if (known !== undefined) return use(known);
    const blocked = blockedDenial(failures, exchange);
    if (blocked !== undefined) return this.#owner.refuseLater(exchange, blocked);
    if (exchange.waitingSinceMs === 0) exchange.waitingSinceMs = performance.now();
    foreignIds.find(digestHex, exchange.waitingSinceMs).then(
      (id) => {
        if (exchange.over) return;
        if (id === null) return exchange.refuse(failedAttempt(failures, exchange, invalidToken), false);
        cache.putForeignId(digestHex, id);
        use(id);
      },
      // With its breaker open it rejects at once, inside the binding's handler still.
      () => this.#owner.refuseLater(exchange, storeAway),
    );
  }

  /** The token behind a remembered hash is gone or has another secret: the hash may have been imported anew. */
  resolveAgain(exchange: Exchange): void {
    const { digest } = exchange.credential as BearerCredential;
    this.#parts.cache.dropForeignId(digest.toString('hex'));
    this.resolve(exchange, digest);
  }
}
