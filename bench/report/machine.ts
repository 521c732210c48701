/** What the figures were measured on. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { redisServerProgram } from '../../test/support/redis.js';
import { findExecutable } from '../../test/support/process.js';

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGib: number;
  readonly kernel: string;
  readonly node: string;
  readonly redis: string;
  readonly nginx: string;
  readonly autocannon: string;
  readonly uWebSockets: string;
}

/** Reads it from the machine and the programs found there. */
export function describeMachine(): Machine {
  const [, model] = /^model name\s*:\s*(.+)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8')) ?? [];
  const nginx = findExecutable('nginx');
  return {
    cpu: model ?? cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memoryGib: Math.round((totalmem() / 2 ** 30) * 10) / 10,
    kernel: release(),
    node: process.version,
    redis: versionOf(redisServerProgram(), '--version', /v=(\S+)/),
    nginx: nginx === undefined ? 'none' : versionOf(nginx, '-v', /nginx\/(\S+)/),
    autocannon: packageVersion('autocannon'),
    uWebSockets: `uws-pack ${packageVersion('uWebSockets.js')}`,
  };
}

function versionOf(program: string, flag: string, pattern: RegExp): string {
  const { stdout, stderr } = spawnSync(program, [flag], { encoding: 'utf8' });
  return pattern.exec(`${stdout}${stderr}`)?.[1] ?? 'unknown';
}

function packageVersion(name: string): string {
  const file = new URL(`../../node_modules/${name}/package.json`, import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}
