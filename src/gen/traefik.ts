/** Traefik: `forwardAuth`. Written from its documentation; Traefik cannot run where the tests run. */
import { clientClaims } from '../http/drop-list.js';
import {
  askedHeaders,
  comment,
  credentialHeaders,
  identityHeaders,
  otherNamesOfFacts,
  upgradeHeaders,
} from './headers.js';
import { authorityOf, bindOf, commandLine, type GeneratedFile, type GenSettings } from './settings.js';

export function generateTraefik(settings: GenSettings): readonly GeneratedFile[] {
  return [
    { name: 'tollkeeper.yaml', text: dynamicConfiguration(settings) },
    { name: 'traefik.yaml', text: staticConfiguration(settings) },
  ];
}

const untested = `NOT RUN BY THE TESTS of Tollkeeper, which have no Traefik: written from the documentation of Traefik 3, only its
syntax is checked. Try it with spoofed headers before you rely on it (docs/verify.md says with which).`;

function dynamicConfiguration(settings: GenSettings): string {
  const { upstream, verify, hmacPrefix } = settings;
  const prefixes = [...new Set(['X-Tollkeeper-', hmacPrefix])].join('|');
  return `${comment(`Tollkeeper behind Traefik 3: the dynamic configuration; traefik.yaml beside it loads it.
${untested}

Made by: ${commandLine('traefik', settings)} --out .
Tollkeeper needs: TOLLKEEPER_TRUSTED_PROXIES with the address Traefik connects from.

What differs from the other proxies: a client that is let through does not see its limits (Traefik copies only cookies
from the answer), and Tollkeeper away is 500, not 503. Both refuse.`)}
http:
  routers:
    tollkeeper:
      entryPoints: [tollkeeper]
      rule: PathPrefix(\`/\`)
      service: upstream
      middlewares: [tollkeeper-claims, tollkeeper, tollkeeper-credentials]

  middlewares:
    # What a client may not say of itself, its address or another method or URL; upgrades would open a tunnel past
    # every later check. An empty value removes the field. X-Forwarded-For, -Host and -Proto are Traefik's own.
    tollkeeper-claims:
      headers:
        customRequestHeaders:
${[...otherNamesOfFacts, ...clientClaims, ...upgradeHeaders].map((name) => `          ${name}: ""`).join('\n')}

    tollkeeper:
      forwardAuth:
        address: http://${authorityOf(verify)}/verify
        # Method, URI, host, protocol and address are what Traefik saw, not what the client said.
        trustForwardHeader: false
        # Every field of the client with such a name is removed, then Tollkeeper's ${identityHeaders.length} and the body's digest are set.
        authResponseHeadersRegex: (?i)^(${prefixes})
        authRequestHeaders:
${askedHeaders(settings)
  .map((name) => `          - ${name}`)
  .join('\n')}

    # Credentials end here; those of signed requests are gone already.
    tollkeeper-credentials:
      headers:
        customRequestHeaders:
${credentialHeaders(settings)
  .filter((name) => !name.startsWith(hmacPrefix))
  .map((name) => `          ${name}: ""`)
  .join('\n')}

  services:
    upstream:
      loadBalancer:
        passHostHeader: true
        servers:
          - url: ${upstream.scheme}://${authorityOf(upstream)}
`;
}

function staticConfiguration(settings: GenSettings): string {
  return `${comment(`Tollkeeper behind Traefik 3: the static configuration.
${untested}

Made by: ${commandLine('traefik', settings)} --out .`)}
entryPoints:
  tollkeeper:
    address: ${JSON.stringify(bindOf(settings.listen))}
    # Behind another proxy: forwardedHeaders.trustedIPs with its address, and nobody else's.
    # Leave encoded characters (/ \\ NUL ; ? #) refused, as Traefik does since 3.6.4.
    # Names with _: Traefik since 3.6.20 can refuse them. Do so: a backend may read X_Tollkeeper_Tenant as
    # X-Tollkeeper-Tenant.

providers:
  file:
    filename: tollkeeper.yaml
`;
}
