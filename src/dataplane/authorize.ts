/** May this token do this: tenant, transport, address, route, scope, in this order. A stage: values in, a value out. */
import { deny, type Denial } from '../core/problems.js';
import type { AddressList } from '../http/forwarded.js';
import { tenantOfHost } from '../http/host.js';
import type { Policy, Route } from '../policy/routes.js';
import type { PreparedTenant, PreparedToken } from '../token/cache.js';

/** What of the request the decision rests on. */
export interface AuthorizationSubject {
  readonly method: string;
  readonly path: string;
  readonly host: string;
  readonly secure: boolean;
  readonly clientAddress: string;
  readonly route: Route | undefined;
}

const otherTenant = deny('tenant-mismatch', 'This token belongs to another tenant than this host.');
const tenantClosed = deny('token-inactive', 'The tenant of this token is being deleted.');
const httpsRequired = deny('https-required', 'This tenant accepts HTTPS only.');
const addressRefused = deny('address-not-allowed', "This address is not on the token's allow-list.");
const noRoute = deny('route-not-allowed', 'The policy has no route for this method and path.');

/** The first of the checks below that fails. `tenantHost` is the configured `*.example.com`, '' when hosts name no tenant. */
export function authorize(
  token: PreparedToken,
  tenant: PreparedTenant,
  subject: AuthorizationSubject,
  policy: Policy,
  tenantHost: string,
  addresses: AddressList,
): Denial | undefined {
  return (
    tenantDenial(tenant, subject, tenantHost) ??
    httpsDenial(tenant, subject) ??
    addressDenial(token, subject, addresses) ??
    routeDenial(subject, policy) ??
    scopeDenial(token, subject)
  );
}

export function tenantDenial(
  tenant: PreparedTenant,
  subject: AuthorizationSubject,
  tenantHost: string,
): Denial | undefined {
  if (tenantHost !== '' && tenantOfHost(subject.host, tenantHost) !== tenant.slug) return otherTenant;
  return tenant.record.state === 'deleting' ? tenantClosed : undefined;
}

export function httpsDenial(tenant: PreparedTenant, subject: AuthorizationSubject): Denial | undefined {
  return tenant.record.requireHttps && !subject.secure ? httpsRequired : undefined;
}

export function addressDenial(
  token: PreparedToken,
  subject: AuthorizationSubject,
  addresses: AddressList,
): Denial | undefined {
  const { allowedIps } = token.record;
  return allowedIps.length === 0 || addresses.includes(allowedIps, subject.clientAddress) ? undefined : addressRefused;
}

export function routeDenial(subject: AuthorizationSubject, policy: Policy): Denial | undefined {
  if (subject.route !== undefined) return undefined;
  const allow = policy.allowedMethods(subject.path);
  if (allow !== '') return wrongMethod(allow);
  return policy.defaultAllow ? undefined : noRoute;
}

/** Without a route there is no scope to have. */
export function scopeDenial(token: PreparedToken, { route }: AuthorizationSubject): Denial | undefined {
  if (route === undefined) return undefined;
  for (const scope of route.scopes) {
    if (!token.scopes.has(scope)) return lacking(route);
  }
  return undefined;
}

// Denials whose text depends on the route are made once: the policy bounds how many there are.
const denialsByText = new Map<string, Denial>();
const denialsMax = 10_000;

function wrongMethod(allow: string): Denial {
  return remembered(`405 ${allow}`, () => deny('method-not-allowed', 'The route exists for other methods.', { allow }));
}

function lacking(route: Route): Denial {
  const scope = route.scopes.join(' ');
  return remembered(`403 ${scope}`, () =>
    deny('insufficient-scope', `This route needs the scope ${scope}.`, { scope }),
  );
}

function remembered(text: string, make: () => Denial): Denial {
  let denial = denialsByText.get(text);
  if (denial === undefined) {
    if (denialsByText.size >= denialsMax) denialsByText.clear();
    denial = make();
    denialsByText.set(text, denial);
  }
  return denial;
}
