/** Failed authentications, as requests meet them: counted by their address, and refused past its limit. */
import type { Denial } from '../core/problems.js';
import type { AuthFailures } from '../credential/auth-failures.js';
import { blocked } from './refusals.js';
import type { RequestState } from './request-state.js';

/** The refusal of an address with too many of them, undefined when it may try. */
export function blockedDenial(failures: AuthFailures, request: RequestState): Denial | undefined {
  const forS = failures.blockedForS(request.clientAddress, request.startedAtMs);
  if (forS === 0) return undefined;
  request.retryMs = forS * 1000;
  return blocked;
}

/** Counts one that ends in `denial`. Answers it, or 429 past the limit of its address. */
export function failedAttempt(failures: AuthFailures, request: RequestState, denial: Denial): Denial {
  const tooMany = blockedDenial(failures, request);
  if (tooMany !== undefined) return tooMany;
  failures.count(request.clientAddress, request.startedAtMs);
  return denial;
}
