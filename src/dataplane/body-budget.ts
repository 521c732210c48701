/** Memory that the request bodies of one process may hold together. */
export class BodyBudget {
  readonly #bytesMax: number;
  #heldBytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get heldBytes(): number {
    return this.#heldBytes;
  }

  get isExceeded(): boolean {
    return this.#heldBytes > this.#bytesMax;
  }

  /** One body holds `bytes` more, or less when that is negative. */
  change(bytes: number): void {
    this.#heldBytes += bytes;
  }
}
