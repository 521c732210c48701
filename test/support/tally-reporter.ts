/** Prints `N passed, N failed` (and `, N skipped`) as the very last line of a run. */
import type { Reporter, TestModule } from 'vitest/node';

interface Tally {
  passed: number;
  failed: number;
  skipped: number;
}

// oxlint-disable-next-line import/no-default-export -- vitest loads a reporter by its default export
export default class TallyReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
    // What failed outside a test (a file that does not load, an error nobody caught) counts as a failure too.
    const tally: Tally = { passed: 0, failed: unhandledErrors.length, skipped: 0 };
    for (const module of modules) count(module, tally);
    if (modules.length === 0 && tally.failed === 0) tally.failed = 1;
    const line = `${tally.passed} passed, ${tally.failed} failed${tally.skipped > 0 ? `, ${tally.skipped} skipped` : ''}\n`;
    // Other reporters print their summary at this event too, in no promised order: last is at the exit.
    process.once('exit', () => process.stdout.write(line));
  }
}

function count(module: TestModule, tally: Tally): void {
  let failedTests = 0;
  for (const test of module.children.allTests()) {
    const { state } = test.result();
    if (state === 'passed') tally.passed += 1;
    else if (state === 'failed') failedTests += 1;
    else tally.skipped += 1;
  }
  const failedOutside = failedTests === 0 && module.state() === 'failed' ? 1 : 0;
  tally.failed += failedTests + failedOutside;
}
