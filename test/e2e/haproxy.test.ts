/** Tollkeeper behind a real HAProxy that runs with exactly what `tollkeeper gen haproxy` makes. */
import { describeBehindProxy } from '../support/behind-proxy.js';
import { startHaproxy } from '../support/haproxy.js';

describeBehindProxy({ name: 'HAProxy', start: startHaproxy, refusesEmptyNames: true, passesLargeHeaders: true });
