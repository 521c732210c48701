/** Tollkeeper behind a real nginx that runs with exactly what `tollkeeper gen nginx` makes. */
import { describeBehindProxy } from '../support/behind-proxy.js';
import { startNginx } from '../support/nginx.js';

describeBehindProxy({
  name: 'nginx',
  start: startNginx,
  refusesEmptyNames: true,
  passesLargeHeaders: false,
  takesChunks: true,
});
