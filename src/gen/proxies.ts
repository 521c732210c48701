/** Every proxy that a configuration can be made for. */
import { generateCaddy } from './caddy.js';
import { generateEnvoy } from './envoy.js';
import { generateHaproxy } from './haproxy.js';
import { generateNginx } from './nginx.js';
import type { Generator } from './settings.js';
import { generateTraefik } from './traefik.js';

export const generators = {
  nginx: generateNginx,
  caddy: generateCaddy,
  haproxy: generateHaproxy,
  traefik: generateTraefik,
  envoy: generateEnvoy,
} satisfies Readonly<Record<string, Generator>>;

export type ProxyName = keyof typeof generators;

export const proxyNames = Object.keys(generators) as readonly ProxyName[];

export function isProxyName(name: string): name is ProxyName {
  return (proxyNames as readonly string[]).includes(name);
}
