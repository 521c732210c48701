/** proxy-bearer while somebody scrapes `/metrics` once a second: what that does to its latencies. */
import { get } from 'node:http';
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
      get(`${subject.adminOrigin}/metrics`, (answer) => {
        if (answer.statusCode !== 200) faults.push(`a scrape was answered ${answer.statusCode}`);
        // Not looked at: it would be time that the load lacks.
        answer.resume();
        answer.once('end', () => scrapes++);
      }).once('error', (error) => faults.push(`a scrape failed: ${error.message}`));
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
