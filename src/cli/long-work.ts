/** What commands share that work for a while: a line that says how far they are, and Ctrl-C that ends them in order. */
import type { CliContext } from './context.js';

const barCells = 24;
/** A terminal that is written to more often only flickers. */
const showEveryMs = 100;

/** Shows how far a work is. `close` takes the line away, before anything else is printed. */
export class ProgressLine {
  readonly #context: CliContext;
  readonly #what: string;
  readonly #total: number | undefined;
  readonly #startedMs: number;
  #shownMs = 0;

  /** `what` is being done; `total` units of it, undefined when nobody knows. Times are monotonic ms. */
  constructor(context: CliContext, what: string, total?: number, startedMs = performance.now()) {
    this.#context = context;
    this.#what = what;
    this.#total = total;
    this.#startedMs = startedMs;
  }

  /** `done` units are done. */
  show(done: number, nowMs = performance.now()): void {
    if (nowMs - this.#shownMs < showEveryMs && done !== this.#total) return;
    this.#shownMs = nowMs;
    const seconds = (nowMs - this.#startedMs) / 1000;
    const pace = seconds < 1 ? '' : `  ${grouped(Math.round(done / seconds))}/s`;
    this.#context.status?.(`${this.#what}  ${this.#amount(done)}${pace}`);
  }

  close(): void {
    this.#context.status?.('');
  }

  #amount(done: number): string {
    if (this.#total === undefined) return grouped(done);
    const part = this.#total === 0 ? 1 : Math.min(1, done / this.#total);
    const full = Math.round(part * barCells);
    const bar = '#'.repeat(full) + '-'.repeat(barCells - full);
    return `[${bar}] ${Math.floor(part * 100)}%  ${grouped(done)} of ${grouped(this.#total)}`;
  }
}

/**
 * Runs `work` with a signal that SIGINT and SIGTERM abort, so that it can end between two steps. A second one ends the
 * process at once, as without this.
 */
export async function interruptible<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const abort = (): void => controller.abort();
  process.once('SIGINT', abort);
  process.once('SIGTERM', abort);
  try {
    return await work(controller.signal);
  } finally {
    process.off('SIGINT', abort);
    process.off('SIGTERM', abort);
  }
}

function grouped(count: number): string {
  return count.toLocaleString('en-US');
}
