/** How many answers of a kind that takes long are under way at a time: in all, and of one principal. */
import type { Principal } from '../management/principal.js';
import { AdminRefusal } from './problem.js';

export interface SlotLimits {
  /** Of one principal, so that nobody can take the places of all. */
  readonly each: number;
  readonly total: number;
}

const retryAfterS = 5;

export class Slots {
  readonly #limits: SlotLimits;
  /** Principals that have some, and how many. */
  readonly #taken = new Map<string, number>();
  #total = 0;

  constructor(limits: SlotLimits) {
    this.#limits = limits;
  }

  /**
   * Runs `work` in a slot.
   * @throws AdminRefusal `too-many-requests` when there is none; what `work` throws.
   */
  async run<T>({ kind, name }: Principal, work: () => Promise<T>): Promise<T> {
    const holder = `${kind} ${name}`;
    const held = this.#taken.get(holder) ?? 0;
    if (held >= this.#limits.each || this.#total >= this.#limits.total) {
      const detail = 'Too many answers of this kind are under way: let one come to its end, then try again.';
      throw new AdminRefusal('too-many-requests', detail, retryAfterS);
    }
    this.#taken.set(holder, held + 1);
    this.#total += 1;
    try {
      return await work();
    } finally {
      this.#total -= 1;
      const left = (this.#taken.get(holder) ?? 1) - 1;
      if (left === 0) this.#taken.delete(holder);
      else this.#taken.set(holder, left);
    }
  }
}
