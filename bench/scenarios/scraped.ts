/** proxy-bearer while somebody scrapes `/metrics` once a second: what that does to its latencies. */
import { proxyBearer } from './proxy.js';
import type { Scenario } from './scenario.js';

const everyMs = 1000;

export const proxyScraped: Scenario = {
  ...proxyBearer,
  name: 'proxy-bearer-scraped',
  about: 'proxy-bearer while `/metrics` is scraped once a second',
  async start(stage, options) {
    const subject = await proxyBearer.start(stage, options);
    const faults: string[] = [];
    let scrapes = 0;
    const timer = setInterval(() => {
      fetch(`${subject.adminOrigin}/metrics`)
        .then((answer) => answer.text())
        .then(() => scrapes++)
        .catch((error: unknown) => faults.push(`a scrape failed: ${String(error)}`));
    }, everyMs);
    return {
      ...subject,
      async check(report) {
        clearInterval(timer);
        const checked = await subject.check(report);
        if (scrapes < report.window.durationMs / everyMs - 1) faults.push(`${scrapes} scrapes only`);
        return { ...checked, faults: [...checked.faults, ...faults] };
      },
      async stop() {
        clearInterval(timer);
        await subject.stop();
      },
    };
  },
};
