/** Which token comes next when there are many: the same sequence in every run. */

/** Numbers from 0 to `count - 1`, all alike or after Zipf (exponent 1): the n-th token is used 1/n as often as the first. */
export class TokenRanks {
  readonly #count: number;
  readonly #skewed: boolean;
  #state = 0x2545_f491;

  constructor(count: number, skewed: boolean) {
    this.#count = count;
    this.#skewed = skewed;
  }

  next(): number {
    const part = this.#random();
    // The sum of 1/n up to a rank grows as its logarithm: this is its inverse.
    return this.#skewed ? Math.floor((this.#count + 1) ** part) - 1 : Math.floor(part * this.#count);
  }

  /** 0 to 1: mulberry32, by T. Ettinger (public domain). */
  #random(): number {
    this.#state = (this.#state + 0x6d2b_79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }
}
