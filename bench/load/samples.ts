/** Measured values in the order they came. */

/** Grows as needed; a plain array of doubles would cost the generator more. */
export class Samples {
  #values = new Float64Array(1 << 16);
  #count = 0;

  get count(): number {
    return this.#count;
  }

  add(value: number): void {
    if (this.#count === this.#values.length) {
      const larger = new Float64Array(this.#values.length * 2);
      larger.set(this.#values);
      this.#values = larger;
    }
    this.#values[this.#count++] = value;
  }

  /** Values at the given parts of all (0 to 1), by nearest rank. */
  quantiles(parts: readonly number[]): number[] {
    const sorted = this.#values.slice(0, this.#count).sort();
    return parts.map((part) => sorted[Math.max(0, Math.ceil(part * this.#count) - 1)] ?? 0);
  }
}
