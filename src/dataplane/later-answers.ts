/**
 * Answers that are decided inside the binding's handler: they leave from the next macrotask, one for all of a turn,
 * because nothing may answer inside of it (see exchange.ts).
 */
import { inPollPhase } from '../core/poll-phase.js';
import type { Denial } from '../core/problems.js';
import type { Exchange } from './exchange.js';

export class LaterAnswers {
  #decided: Exchange[] = [];

  refuse(exchange: Exchange, denial: Denial): void {
    exchange.pending = denial;
    this.admit(exchange);
  }

  /** Lets a request pass that needs no decision. */
  admit(exchange: Exchange): void {
    if (this.#decided.push(exchange) === 1) inPollPhase(this.#send);
  }

  readonly #send = (): void => {
    const decided = this.#decided;
    this.#decided = [];
    for (const exchange of decided) {
      const denial = exchange.pending;
      if (denial === undefined) {
        exchange.admitted();
        continue;
      }
      exchange.refuse(denial, closesConnection(denial.problem.status));
    }
  };
}

/** 4xx about the framing or its size end the connection; 401, 403, 429 of a sound request need not. */
function closesConnection(status: number): boolean {
  return status === 400 || status === 405 || status === 411 || status === 413 || status === 414 || status === 431;
}
