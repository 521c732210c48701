import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    // Only what hangs is as late, also on a machine that gives the suite a fifth of what it has on an idle one.
    testTimeout: 240_000,
    hookTimeout: 240_000,
    expect: { poll: { timeout: 120_000 } },
    // Integration tests start real servers; two cores carry two files at a time.
    maxWorkers: 2,
    reporters: ['default', './test/support/tally-reporter.ts'],
    projects: [
      {
        extends: true,
        // Files of one process share what they import: that is half of the processor time of these.
        test: { name: 'unit', include: ['test/unit/**/*.test.ts'], isolate: false },
      },
      { extends: true, test: { name: 'whole', include: ['test/**/*.test.ts'], exclude: ['test/unit/**'] } },
    ],
  },
});
