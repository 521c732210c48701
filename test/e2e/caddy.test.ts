/** Tollkeeper behind a real Caddy that runs with exactly what `tollkeeper gen caddy` makes. */
import { describeBehindProxy } from '../support/behind-proxy.js';
import { startCaddy } from '../support/caddy.js';

describeBehindProxy({
  name: 'Caddy',
  start: startCaddy,
  refusesEmptyNames: false,
  passesLargeHeaders: false,
  takesChunks: true,
  // Go escapes what no path may hold raw, before Caddy asks.
  rewrites: (target) => target.replace(/["<>{}]/g, encodeURIComponent),
});
