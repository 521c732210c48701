/** A real nginx that includes exactly what `tollkeeper gen nginx` prints. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { generatedFolder, type ProxyPlan, requireProgram, type ReverseProxy, startProxy } from './proxy.js';

/** What Debian's nginx.conf has around its conf.d, with every path inside the folder. */
function mainConfiguration(folder: string): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
  return `
daemon off;
master_process off;
pid ${folder}/nginx.pid;
error_log stderr notice;
events { worker_connections 256; }
http {
    access_log off;
${temporary.map((name) => `    ${name}_temp_path ${folder}/temp/${name};`).join('\n')}
    include ${folder}/nginx.conf;
}
`;
}

export async function startNginx(plan: ProxyPlan): Promise<ReverseProxy> {
  const file = requireProgram('nginx');
  const folder = await generatedFolder('nginx', plan);
  mkdirSync(join(folder, 'temp'));
  const main = join(folder, 'main.conf');
  writeFileSync(main, mainConfiguration(folder));
  return startProxy(file, ['-e', 'stderr', '-p', folder, '-c', main], {}, folder, plan.port);
}
