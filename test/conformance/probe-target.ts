/** What probes, as they are or mutated, are sent to: one sidecar with the policy of http_probes.json and two tokens. */
import { readFileSync } from 'node:fs';
import { type Installation, startInstallation } from '../support/installation.js';
import type { LogLine, Sidecar } from '../support/sidecar.js';
import type { Probe, ProbeValues } from './probe-request.js';

export const probes = JSON.parse(
  readFileSync(new URL('http_probes.json', import.meta.url), 'utf8'),
) as readonly Probe[];

export const probeTenant = 'acme';
export const probeScopes = 'products:read';

const policyYaml = `
policy:
  default: deny
  scopes: [products:read, orders:write, admin:all]
  routes:
    - { methods: [GET, HEAD], path: /api/v1/products, scope: products:read }
    - { methods: [GET, HEAD], path: "/api/v1/products/{id}", scope: products:read }
    - { methods: [POST], path: /api/v1/products/search, scope: products:read }
    - { methods: [POST], path: "/api/v1/orders/{id}/retry", scope: orders:write }
    - { methods: [GET], path: /api/v1/admin/tokens, scope: admin:all }
    - { methods: [GET], path: /status, public: true }
`;

export interface ProbeTarget {
  readonly installation: Installation;
  readonly sidecar: Sidecar;
  /** For the placeholders of the probes. */
  readonly values: ProbeValues;
  /** Lines of level error and above that the sidecar logged once it listened. */
  errors(): readonly LogLine[];
  stop(): Promise<void>;
}

/** Starts Redis and a sidecar before `upstreamUrl`; `env` is the sidecar's. Neither token meets a limit. */
export async function startProbeTarget(
  upstreamUrl: string,
  env: Readonly<Record<string, string>>,
): Promise<ProbeTarget> {
  const installation = await startInstallation({ policy: policyYaml });
  try {
    await installation.tenant(probeTenant);
    const flags = ['--scopes', probeScopes, '--limit', '1000000', '--window', '1'];
    const bearer = await installation.token(probeTenant, ...flags);
    const hmac = await installation.token(probeTenant, '--mode', 'hmac', ...flags);
    const sidecar = await installation.sidecar({ env: { TOLLKEEPER_UPSTREAM: upstreamUrl, ...env } });
    const linesBefore = sidecar.logs().length;
    return {
      installation,
      sidecar,
      values: {
        host: `127.0.0.1:${sidecar.dataPort}`,
        token: bearer.secret,
        tokenId: bearer.id,
        hmacId: hmac.id,
        hmacSecret: hmac.secret,
        nowS: Math.floor(Date.now() / 1000),
      },
      errors: () =>
        sidecar
          .logs()
          .slice(linesBefore)
          .filter(({ level }) => level === 'error' || level === 'fatal'),
      stop: () => installation.stop(),
    };
  } catch (error) {
    await installation.stop();
    throw error;
  }
}
