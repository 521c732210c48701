/** Tickets that wait for a batch, bounded, in the order in which they came: a ring, so that taking one moves no other. */
import type { AdmissionTicket } from './ticket.js';

export class TicketQueue {
  readonly #tickets: (AdmissionTicket | undefined)[];
  readonly #sinceMs: Float64Array;
  #first = 0;
  #length = 0;

  constructor(max: number) {
    this.#tickets = Array.from({ length: max });
    this.#sinceMs = new Float64Array(max);
  }

  get length(): number {
    return this.#length;
  }

  get isFull(): boolean {
    return this.#length === this.#tickets.length;
  }

  /** When the first began to wait, monotonic ms; it must not be empty. */
  get firstSinceMs(): number {
    return this.#sinceMs[this.#first] as number;
  }

  /** `sinceMs`: when it began to wait. It must not be full. */
  push(ticket: AdmissionTicket, sinceMs: number): void {
    let place = this.#first + this.#length;
    if (place >= this.#tickets.length) place -= this.#tickets.length;
    this.#tickets[place] = ticket;
    this.#sinceMs[place] = sinceMs;
    this.#length += 1;
  }

  /** Takes the first; it must not be empty. */
  shift(): AdmissionTicket {
    const ticket = this.#tickets[this.#first] as AdmissionTicket;
    this.#tickets[this.#first] = undefined;
    this.#first = this.#first + 1 === this.#tickets.length ? 0 : this.#first + 1;
    this.#length -= 1;
    return ticket;
  }

  /**
   * Takes those that have waited since `untilMs` or longer and hands them to `taken`. Answers when the longest waiting of
   * the others began, Infinity when there is none.
   */
  takeWaitingSince(untilMs: number, taken: (ticket: AdmissionTicket) => void): number {
    let nextMs = Number.POSITIVE_INFINITY;
    for (let left = this.#length; left > 0; left -= 1) {
      const sinceMs = this.firstSinceMs;
      const ticket = this.shift();
      if (sinceMs <= untilMs) {
        taken(ticket);
        continue;
      }
      this.push(ticket, sinceMs);
      nextMs = Math.min(nextMs, sinceMs);
    }
    return nextMs;
  }
}
