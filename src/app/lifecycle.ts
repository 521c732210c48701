/** Ends of things: closing in reverse order, waiting for work that runs out, and never waiting for ever. */

/** How long one step of a shutdown may take once the drain is over, ms. */
export const closeStepMs = 2000;

/** How long writing the access log may take then, as long as Redis takes entries, ms: ten times 50,000 entries' time. */
export const logCloseMs = 10_000;

/** What was opened, to be closed in reverse order; a step that hangs does not keep the others from their turn. */
export class Closers {
  readonly #steps: { readonly run: () => Promise<void> | void; readonly deadlineMs: number }[] = [];

  /** `deadlineMs`: how long the step may take. */
  add(run: () => Promise<void> | void, deadlineMs: number = closeStepMs): void {
    this.#steps.push({ run, deadlineMs });
  }

  /** Runs every step once, each for at most its time. */
  async close(): Promise<void> {
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      await withDeadline(Promise.resolve(step.run()), step.deadlineMs);
    }
  }
}

/** The value of `step`, or undefined when it has not come after `ms`. */
export async function withDeadline<T>(step: Promise<T>, ms: number): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const deadline = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), ms);
  });
  try {
    return await Promise.race([step, deadline]);
  } finally {
    clearTimeout(timer);
  }
}

/** Answers when nothing is left, or after `timeoutMs`. `remaining` is asked every few ms. */
export async function drained(remaining: () => number, timeoutMs: number): Promise<void> {
  const until = performance.now() + timeoutMs;
  while (remaining() > 0 && performance.now() < until) {
    await new Promise((resolve) => {
      setTimeout(resolve, 10);
    });
  }
}
