/** `tollkeeper serve`: runs until SIGTERM or SIGINT; SIGHUP reads the policy again, SIGUSR2 restarts the workers. */
import { once } from 'node:events';
import type { Command } from 'commander';
import type { RunningApp } from '../app/serve.js';
import type { Config } from '../config/schema.js';
import { configOf } from './config-option.js';
import type { CliContext } from './context.js';

/** From the end of the work to that of the process, at most, ms. */
const exitAfterMs = 1000;

export function registerServe(program: Command, context: CliContext): void {
  const command = program
    .command('serve')
    .description('start the sidecar: data plane and admin plane')
    .option('--listen <address>', 'data plane address, host:port')
    .option('--admin-listen <address>', 'admin plane address, host:port')
    .option('--upstream <origin>', 'the API behind, http://host:port')
    .option('--json', 'its log is JSON, one object a line, with or without this')
    .action(async (options: { listen?: string; adminListen?: string; upstream?: string }) => {
      const readConfig = (): Config => configOf(command, context, options);
      // The other commands need not load the servers.
      const { serve } = await import('../app/serve.js');
      // Heard from the first moment on: a signal that comes during the start must not end it half done.
      const ended = Promise.race([once(process, 'SIGTERM'), once(process, 'SIGINT')]);
      let running: RunningApp | undefined;
      const reload = (): void => void running?.reload(readConfig);
      const restart = (): void => void running?.restart();
      process.on('SIGHUP', reload);
      process.on('SIGUSR2', restart);
      const app = await serve(readConfig());
      running = app;
      const failure = await Promise.race([app.failed, ended]);
      await app.close();
      process.off('SIGHUP', reload);
      process.off('SIGUSR2', restart);
      // All is written and closed: a connection that is being given up must not keep the process.
      setTimeout(() => process.exit(), exitAfterMs).unref();
      if (failure instanceof Error) throw failure;
    });
}
