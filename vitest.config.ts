import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    environment: 'node',
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // Integration tests start real servers; two cores carry two files at a time.
    maxWorkers: 2,
    reporters: ['default', './test/support/tally-reporter.ts'],
  },
});
