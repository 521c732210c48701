/** A real HAProxy with exactly what `tollkeeper gen haproxy` writes. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { generatedFolder, type ProxyPlan, requireProgram, type ReverseProxy, startProxy } from './proxy.js';

/** `lua` stands in for the generated script, for tests of what the configuration does when that fails. */
export async function startHaproxy(plan: ProxyPlan, lua?: string): Promise<ReverseProxy> {
  const file = requireProgram('haproxy');
  const folder = await generatedFolder('haproxy', plan);
  if (lua !== undefined) writeFileSync(join(folder, 'tollkeeper.lua'), lua);
  return startProxy(file, ['-db', '-f', join(folder, 'haproxy.cfg')], {}, folder, plan.port);
}
