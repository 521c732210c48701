/** What an explanation holds, and the list of checks while it is being made. */
import type { Denial } from '../core/problems.js';
import type { TokenRecord } from '../token/token.js';

/**
 * - `assumed`: nothing was given to check (a token's id stands for its secret), so it is taken for right.
 * - `skipped`: it does not apply, or an earlier refusal leaves nothing to check.
 */
type CheckResult = 'pass' | 'fail' | 'assumed' | 'skipped';

export interface ExplainedCheck {
  readonly check: string;
  readonly result: CheckResult;
  /** What was looked at; holds no secret. */
  readonly found: string;
  /** Slug of the problem when it failed, else ''. */
  readonly problem: string;
}

export interface ExplainedLimit {
  /** As in `RateLimit-Policy`: `token-60s`, `tenant-60s`. */
  readonly name: string;
  readonly limit: number;
  readonly remaining: number;
  /** Seconds until units come back; 0 when it is full. */
  readonly resetS: number;
}

export interface ExplainedSignature {
  readonly form: 'hmac' | 'rfc9421';
  /** What must be signed for this request: the canonical string, or the signature base of RFC 9421. */
  readonly canonicalString: string;
  /** Whether the signature that was given is one of it under the token's secret; null when none was or none can be. */
  readonly matches: boolean | null;
}

export interface Explanation {
  readonly request: {
    readonly method: string;
    readonly target: string;
    readonly host: string;
    readonly scheme: 'http' | 'https';
    /** The client's address, as the checks see it. */
    readonly address: string;
  };
  readonly verdict: {
    /** The request would go to the upstream, or be answered here (`/.well-known/tollkeeper`). */
    readonly admitted: boolean;
    /** Of the refusal; null when it is admitted. */
    readonly status: number | null;
    /** `ok`, or the slug of the problem. */
    readonly outcome: string;
    readonly detail: string;
  };
  readonly route: { readonly pattern: string; readonly scopes: readonly string[]; readonly cost: number } | null;
  readonly token: Pick<TokenRecord, 'id' | 'tenant' | 'name' | 'mode' | 'state' | 'version'> | null;
  /** In the order in which the data plane decides: the first that fails is the verdict. */
  readonly checks: readonly ExplainedCheck[];
  readonly limits: readonly ExplainedLimit[];
  readonly signature: ExplainedSignature | null;
}

/** Every check there is, in order. */
const checkNames = [
  'request',
  'path',
  'body',
  'credential',
  'token',
  'secret',
  'state',
  'expiry',
  'timestamp',
  'tenant',
  'https',
  'address',
  'route',
  'scope',
  'replay',
  'limits',
] as const;
type CheckName = (typeof checkNames)[number];

export class Checklist {
  readonly #made: { readonly place: number; readonly check: ExplainedCheck }[] = [];
  /** Of the first check, in order, that failed. */
  denial: Denial | undefined;

  pass(check: CheckName, found: string): void {
    this.#add(check, 'pass', found, '');
  }

  assume(check: CheckName, found: string): void {
    this.#add(check, 'assumed', found, '');
  }

  skip(check: CheckName, found: string): void {
    this.#add(check, 'skipped', found, '');
  }

  /** Passes without a denial. */
  judge(check: CheckName, denial: Denial | undefined, found: string): void {
    if (denial === undefined) return this.pass(check, found);
    this.denial ??= denial;
    this.#add(check, 'fail', found, denial.problem.slug);
  }

  /** All checks in order; those that were not made are skipped. */
  all(): ExplainedCheck[] {
    return checkNames.flatMap((name, place) => {
      const made = this.#made.filter((entry) => entry.place === place);
      if (made.length > 0) return made.map(({ check }) => check);
      return [{ check: name, result: 'skipped' as const, found: '', problem: '' }];
    });
  }

  #add(check: CheckName, result: CheckResult, found: string, problem: string): void {
    this.#made.push({ place: checkNames.indexOf(check), check: { check, result, found, problem } });
  }
}
