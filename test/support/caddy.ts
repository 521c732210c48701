/** A real Caddy that imports exactly what `tollkeeper gen caddy` prints. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { generatedFolder, type ProxyPlan, requireProgram, type ReverseProxy, startProxy } from './proxy.js';

export async function startCaddy(plan: ProxyPlan): Promise<ReverseProxy> {
  const file = requireProgram('caddy');
  const folder = await generatedFolder('caddy', plan);
  // Nothing is added but that it keeps to its folder and its port.
  const main = join(folder, 'main');
  writeFileSync(main, `{\n\tadmin off\n}\nimport ${join(folder, 'Caddyfile')}\n`);
  const env = { HOME: folder, XDG_DATA_HOME: folder, XDG_CONFIG_HOME: folder };
  const args = ['run', '--adapter', 'caddyfile', '--config', main];
  return startProxy(file, args, env, folder, plan.port);
}
