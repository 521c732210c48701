/** Memory that the request bodies of one process may hold together. */

/** A body that is on its way to the upstream, which takes its bytes without a word. */
export interface FlowingBody {
  /** Tells the budget what is held now. */
  recount(): void;
}

export class BodyBudget {
  readonly #bytesMax: number;
  readonly #flowing = new Set<FlowingBody>();
  /** Never too little; too much by what the upstream has taken since each flowing body told of itself. */
  #countedBytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get heldBytes(): number {
    this.#recount();
    return this.#countedBytes;
  }

  get isExceeded(): boolean {
    if (this.#countedBytes <= this.#bytesMax) return false;
    this.#recount();
    return this.#countedBytes > this.#bytesMax;
  }

  /** One body holds `bytes` more, or less when that is negative. */
  change(bytes: number): void {
    this.#countedBytes += bytes;
  }

  /** From now on `body` is asked before one is refused. */
  flows(body: FlowingBody): void {
    this.#flowing.add(body);
  }

  /** It is gone, and has told so. */
  flowed(body: FlowingBody): void {
    this.#flowing.delete(body);
  }

  #recount(): void {
    for (const body of this.#flowing) body.recount();
  }
}
