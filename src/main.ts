#!/usr/bin/env node
import { runCli } from './cli/cli.js';

// The reader of a pipe has seen enough (`tollkeeper logs | head`): that is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

process.exitCode = await runCli(process.argv.slice(2), process.env);
