/** Tollkeeper behind a real HAProxy that runs with exactly what `tollkeeper gen haproxy` makes. */
import { expect, test } from 'vitest';
import { describeBehindProxy } from '../support/behind-proxy.js';
import { startHaproxy } from '../support/haproxy.js';
import { call, slugOf } from '../support/http-client.js';
import { freePort } from '../support/ports.js';
import { startUpstream } from '../support/upstream.js';

describeBehindProxy({
  name: 'HAProxy',
  start: (plan) => startHaproxy(plan),
  refusesEmptyNames: true,
  passesLargeHeaders: true,
  takesChunks: false,
});

const action = (body: string): string =>
  `core.register_action("tollkeeper", { "http-req" }, function(txn) ${body} end)`;

test.each([
  ['fails', action('error("broken")')],
  ['decides nothing', action('')],
  ['was refused', action('txn:set_var("txn.tollkeeper_verdict", "asked")')],
])('HAProxy lets nothing pass when the script %s', async (_, lua) => {
  const upstream = await startUpstream();
  const port = await freePort();
  const proxy = await startHaproxy({ port, upstream: upstream.url, verify: 'http://127.0.0.1:9' }, lua);
  try {
    const answer = await call(`http://127.0.0.1:${port}/status`);
    expect([answer.status, slugOf(answer)]).toEqual([503, 'store-unavailable']);
    expect(upstream.requests).toEqual([]);
  } finally {
    await proxy.stop();
    await upstream.stop();
  }
});
