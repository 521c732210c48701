/** The checks of a decision one by one, by the very functions that made it. */
import { isQuota, type Limit } from '../admission/limit.js';
import type { Preview } from '../admission/preview.js';
import type { LimitHeaders } from '../admission/rate-headers.js';
import type { Denial } from '../core/problems.js';
import {
  type BearerCredential,
  invalidSignature,
  invalidToken,
  type SignatureCredential,
} from '../credential/extract.js';
import { outsideWindow, signedBeforeRestore, standing, type Verification } from '../credential/verify.js';
import { addressDenial, httpsDenial, routeDenial, scopeDenial, tenantDenial } from '../dataplane/authorize.js';
import { quotaUsedUp, rateLimited, replayed } from '../dataplane/refusals.js';
import type { AddressList } from '../http/forwarded.js';
import type { Policy } from '../policy/routes.js';
import { tenantLimits } from '../tenant/tenant.js';
import type { PreparedTenant, PreparedToken } from '../token/cache.js';
import { effectiveLimits } from '../token/token.js';
import type { DescribedRequest } from './described-request.js';
import type { Checklist, ExplainedLimit } from './explanation.js';

export interface Decision {
  readonly request: DescribedRequest;
  readonly credential: BearerCredential | SignatureCredential;
  readonly assumed: boolean;
  readonly token: PreparedToken;
  /** Undefined when its record is gone. */
  readonly tenant: PreparedTenant | undefined;
  readonly secretDenial: Denial | undefined;
  readonly verified: Verification;
  /** Redis' clock. */
  readonly nowMs: number;
  /** The signature was used before. */
  readonly isUsed: boolean;
  readonly policy: Policy;
  readonly tenantHost: string;
  readonly addresses: AddressList;
}

/** Lists every check from the token to the replay. */
export function listDecision(list: Checklist, decision: Decision): void {
  const { request, credential, token, tenant, policy } = decision;
  const { record } = token;
  list.pass('token', `${token.id} "${record.name}" of tenant ${record.tenant}, mode ${record.mode}`);
  listSecret(list, decision);
  list.judge('state', standing(token), record.state);
  listTimes(list, decision);
  if (tenant === undefined) {
    const denial = credential.kind === 'bearer' ? invalidToken : invalidSignature;
    list.judge('tenant', denial, `the tenant ${record.tenant} does not exist`);
    return;
  }
  const { tenantHost, addresses } = decision;
  const byHost = tenantHost === '' ? '' : `, asked for by host ${request.host} under ${tenantHost}`;
  list.judge('tenant', tenantDenial(tenant, request, tenantHost), `${tenant.slug}, ${tenant.record.state}${byHost}`);
  const scheme = request.secure ? 'https' : 'http';
  const httpsFound = tenant.record.requireHttps ? `${scheme}; the tenant asks for https` : `${scheme}; either will do`;
  list.judge('https', httpsDenial(tenant, request), httpsFound);
  const address = request.clientAddress === '' ? 'an unknown address' : request.clientAddress;
  const allowed = record.allowedIps.length === 0 ? 'any will do' : `allowed are ${record.allowedIps.join(', ')}`;
  list.judge('address', addressDenial(token, request, addresses), `${address}; ${allowed}`);
  listRoute(list, request, token, policy);
  if (credential.kind === 'bearer' || decision.assumed) list.skip('replay', 'no signature was given');
  else list.judge('replay', decision.isUsed ? replayed : undefined, decision.isUsed ? 'used before' : 'not used yet');
}

function listSecret(list: Checklist, { credential, assumed, token, secretDenial, verified, nowMs }: Decision): void {
  const { mode, previousUntil } = token.record;
  const what = credential.kind === 'bearer' ? 'secret' : 'signature';
  if (!verified.authentic) {
    const isModeRight = (mode === 'bearer') === (credential.kind === 'bearer');
    const reason = isModeRight
      ? secretDenial?.problem.status === 503
        ? 'the secret cannot be opened: see the master keys'
        : `the ${what} is not one of this token and request`
      : `a token of mode ${mode} takes no ${what === 'secret' ? 'Bearer token' : 'signature'}`;
    return list.judge('secret', secretDenial, reason);
  }
  if (assumed) return list.assume('secret', `the ${what} is taken for right: only the id of the token was given`);
  // Which of the two secrets it was shows in how long it is good.
  if (previousUntil === null || verified.notAfterMs !== previousUntil)
    return list.pass('secret', `the ${what} is right`);
  const until = new Date(previousUntil).toISOString();
  const denial = nowMs >= previousUntil ? outsideWindow(token, nowMs, credential) : undefined;
  return list.judge('secret', denial, `the ${what} is of the secret before the last rotation, good until ${until}`);
}

/** Expiry of the token, and age of a signature. */
function listTimes(list: Checklist, { credential, assumed, token, verified, nowMs }: Decision): void {
  const isOutside = nowMs < verified.notBeforeMs || (verified.notAfterMs !== 0 && nowMs >= verified.notAfterMs);
  const denial = isOutside ? outsideWindow(token, nowMs, credential) : undefined;
  const isExpired = token.notAfterMs !== 0 && nowMs >= token.notAfterMs;
  const expiry = token.notAfterMs === 0 ? 'never' : new Date(token.notAfterMs).toISOString();
  list.judge('expiry', isExpired ? denial : undefined, expiry);
  if (credential.kind === 'bearer' || assumed) return list.skip('timestamp', 'no signature was given');
  const ageS = Math.round(nowMs / 1000 - credential.timestampS);
  const isStale = denial?.problem.slug === 'stale-timestamp';
  const age = ageS >= 0 ? `${ageS} s before` : `${-ageS} s after`;
  const isBeforeRestore = signedBeforeRestore(token, credential.timestampS);
  return list.judge(
    'timestamp',
    isStale ? denial : isBeforeRestore,
    `${credential.timestampS}, ${age} the clock of Redis`,
  );
}

function listRoute(list: Checklist, request: DescribedRequest, token: PreparedToken, policy: Policy): void {
  const { route, method, path } = request;
  const denial = routeDenial(request, policy);
  const none = `no route for ${method} ${path}`;
  const found = route?.pattern ?? (denial === undefined ? `${none}; the default admits any valid token` : none);
  list.judge('route', denial, found);
  if (route === undefined) return list.skip('scope', 'without a route none is needed');
  const has = token.record.scopes.length === 0 ? 'none' : token.record.scopes.join(' ');
  const needs = route.scopes.length === 0 ? 'none' : route.scopes.join(' ');
  return list.judge('scope', scopeDenial(token, request), `needs ${needs}; the token has ${has}`);
}

/** Lists the state of every limit that a call which costs `cost` is checked against, and answers it. */
export function listLimits(
  list: Checklist,
  preview: Preview,
  token: PreparedToken,
  tenant: PreparedTenant | undefined,
  cost: number,
): ExplainedLimit[] {
  const ofTenant = tenant === undefined ? [] : tenantLimits(tenant.record);
  const limits: Limit[] = [...effectiveLimits(token.record), ...ofTenant];
  const headers: LimitHeaders[] = [...token.limitHeaders, ...(tenant?.limitHeaders ?? [])];
  return [...preview.tokenLimits, ...preview.tenantLimits].map(({ capacity, remaining, resetMs }, index) => {
    const name = headers[index]?.name ?? '';
    const resetS = Math.ceil(resetMs / 1000);
    const usedUp = isQuota(limits[index] as Limit) ? quotaUsedUp : rateLimited;
    const reset = resetS === 0 ? '' : `, more in ${resetS} s`;
    const found = `${name}: ${remaining} of ${capacity} left, a call costs ${cost}${reset}`;
    list.judge('limits', remaining < cost ? usedUp : undefined, found);
    return { name, limit: capacity, remaining, resetS };
  });
}
