/** What `tollkeeper doctor` looks at besides Redis: the configuration's surroundings, the upstream, the process. */
import { accessSync, constants, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { parseAddress } from '../config/formats.js';
import { type Config, configKeys, describeKey } from '../config/schema.js';
import { OperatorError } from '../core/failure.js';
import { loadPolicy } from '../policy/load.js';
import { type Check, fail, ok, warn } from './doctor-check.js';

/** Descriptors below which a busy sidecar runs out of connections. */
const descriptorsWanted = 16_384;

/** Files that the configuration names and that cannot be read, and settings that are allowed and rarely meant. */
export function checkSettings(config: Config): Check[] {
  return [...unreadableFiles(config), ...rarelyMeant(config), checkPolicy(config)];
}

function unreadableFiles(config: Config): Check[] {
  return configKeys.flatMap((key) => {
    const value = config[key];
    if (typeof value !== 'string' || describeKey(key).kind !== 'path') return [];
    try {
      accessSync(value, constants.R_OK);
      return [];
    } catch {
      return [fail(key, `${value} cannot be read`, 'Name a file that exists and that this user may read.')];
    }
  });
}

function rarelyMeant(config: Config): Check[] {
  const checks: Check[] = [];
  const { host } = parseAddress(config.adminListen) ?? { host: '' };
  if (host !== 'localhost' && host !== '::1' && !host.startsWith('127.')) {
    const todo = 'See that only operators reach it: it speaks plain HTTP and opens every tenant.';
    checks.push(warn('adminListen', config.adminListen, todo));
  }
  const open = config.trustedProxies.find((block) => block.endsWith('/0'));
  if (open !== undefined) {
    const todo = 'Name only your proxies: every client can claim any address, protocol and host so.';
    checks.push(warn('trustedProxies', open, todo));
  }
  return checks;
}

function checkPolicy(config: Config): Check {
  const check = 'policy';
  if (config.policy === undefined) {
    return warn(check, 'none', 'Name your routes and their scopes: without a policy no route is allowed.');
  }
  try {
    return ok(check, `${loadPolicy(config.policy).rules.length} routes`);
  } catch (error) {
    if (!(error instanceof OperatorError)) throw error;
    return fail(check, error.message, 'Correct it; tollkeeper policy check FILE looks at a policy alone.');
  }
}

/** Opens a TCP connection to the upstream, and closes it. */
export async function checkUpstream(config: Config): Promise<Check> {
  const check = 'upstream';
  if (config.listen === 'off') return ok(check, 'not needed: the data plane is off');
  if (config.upstream === undefined) {
    const todo = 'Set TOLLKEEPER_UPSTREAM to the address of the API, such as http://127.0.0.1:3000.';
    return fail(check, 'not set', todo);
  }
  const { protocol, hostname, port } = new URL(config.upstream);
  const failure = await tcpFailure(
    hostname.replace(/^\[|\]$/g, ''),
    Number(port || (protocol === 'https:' ? 443 : 80)),
    config.upstreamConnectTimeoutMs,
  );
  if (failure === undefined) return ok(check, `${config.upstream} takes connections`);
  const todo = 'Start the upstream or correct TOLLKEEPER_UPSTREAM: until then callers get 502.';
  return fail(check, `${config.upstream}: ${failure}`, todo);
}

function tcpFailure(host: string, port: number, timeoutMs: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const timer = setTimeout(() => finish(`no answer within ${timeoutMs} ms`), timeoutMs);
    const finish = (failure: string | undefined): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(failure);
    };
    socket.once('connect', () => finish(undefined));
    socket.once('error', (error: NodeJS.ErrnoException) => finish(error.code ?? 'cannot be reached'));
  });
}

/** The open-file limit of this process, which is also that of a `serve` started the same way. */
export function checkDescriptors(config: Config, limits = readLimits()): Check {
  const check = 'descriptor limit';
  const found = /^Max open files\s+(\d+|unlimited)/m.exec(limits)?.[1];
  if (found === undefined)
    return warn(check, 'not told by this system', `See that it is ${descriptorsWanted} or more.`);
  const limit = found === 'unlimited' ? Number.POSITIVE_INFINITY : Number(found);
  // Listeners, Redis, files and a few clients, beside a full pool.
  const needed = config.upstreamConnectionsMax + 128;
  const todo = `Raise it (ulimit -n ${descriptorsWanted}, LimitNOFILE= in systemd): each client and each upstream connection takes one.`;
  if (limit < needed) return fail(check, `${found}; upstreamConnectionsMax alone needs ${needed}`, todo);
  return limit < descriptorsWanted ? warn(check, found, todo) : ok(check, found);
}

function readLimits(): string {
  try {
    return readFileSync('/proc/self/limits', 'utf8');
  } catch {
    return '';
  }
}
