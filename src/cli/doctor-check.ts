/** The outcome of one check of `tollkeeper doctor`. */
export interface Check {
  readonly check: string;
  /** `fail`: `serve` does not work or is not safe so. `warn`: it works, and something should be seen to. */
  readonly status: 'ok' | 'warn' | 'fail';
  readonly found: string;
  /** What to do about it; '' when ok. */
  readonly todo: string;
}

/** A check that found what it wants. */
export function ok(check: string, found: string): Check {
  return { check, status: 'ok', found, todo: '' };
}

/** A check that found something to see to. */
export function warn(check: string, found: string, todo: string): Check {
  return { check, status: 'warn', found, todo };
}

/** A check that found what stops `serve` or makes it unsafe. */
export function fail(check: string, found: string, todo: string): Check {
  return { check, status: 'fail', found, todo };
}
