/** A real HAProxy with exactly what `tollkeeper gen haproxy` writes. */
import { join } from 'node:path';
import { generatedFolder, type ProxyPlan, requireProgram, type ReverseProxy, startProxy } from './proxy.js';

export async function startHaproxy(plan: ProxyPlan): Promise<ReverseProxy> {
  const file = requireProgram('haproxy');
  const folder = await generatedFolder('haproxy', plan);
  return startProxy(file, ['-db', '-f', join(folder, 'haproxy.cfg')], {}, folder, plan.port);
}
