/** What `tollkeeper doctor` looks at besides Redis: the configuration's surroundings, the upstream, the process. */
import { accessSync, constants, readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { parseAddress, type UpstreamAddress } from '../config/formats.js';
import { upstreamSettings } from '../config/require.js';
import { type Config, configKeys, describeKey } from '../config/schema.js';
import { OperatorError } from '../core/failure.js';
import { loadPolicy } from '../policy/load.js';
import { openerOf, type TlsSettings } from '../upstream/target.js';
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

/** Connects to each address of the upstream as `serve` will, TLS handshake included, and closes. */
export async function checkUpstream(config: Config): Promise<Check[]> {
  const check = 'upstream';
  if (config.listen === 'off') return [ok(check, 'not needed: the data plane is off')];
  if (config.upstream === undefined) {
    const todo = 'Set TOLLKEEPER_UPSTREAM to the address of the API, such as http://127.0.0.1:3000.';
    return [fail(check, 'not set', todo)];
  }
  let settings: ReturnType<typeof upstreamSettings>;
  try {
    settings = upstreamSettings(config);
  } catch (error) {
    if (!(error instanceof OperatorError)) throw error;
    return [fail(check, error.message, 'Name certificates that exist and that this user may read.')];
  }
  const { addresses, tls } = settings ?? { addresses: [], tls: {} };
  return Promise.all(
    addresses.map(async (address) => {
      const failure = await connectFailure(address, tls, config.upstreamConnectTimeoutMs);
      if (failure === undefined) return ok(check, `${address.text} takes connections`);
      return fail(check, `${address.text}: ${failure}`, todoFor(address, addresses.length));
    }),
  );
}

function todoFor(address: UpstreamAddress, count: number): string {
  const until = count === 1 ? 'until then callers get 502' : 'until then the other addresses get its requests';
  const isTls = address.kind === 'tcp' && address.isTls;
  const tls = isTls ? ', and see upstreamTlsCa and upstreamTlsName if it is its certificate' : '';
  return `Start the upstream or correct TOLLKEEPER_UPSTREAM${tls}: ${until}.`;
}

function connectFailure(address: UpstreamAddress, tls: TlsSettings, timeoutMs: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const finish = (failure: string | undefined): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(failure);
    };
    const timer = setTimeout(() => finish(`no answer within ${timeoutMs} ms`), timeoutMs);
    let socket: Socket;
    try {
      const open = openerOf(address, tls);
      socket = open(
        Buffer.alloc(1024),
        () => true,
        () => finish(undefined),
      );
    } catch (error) {
      clearTimeout(timer);
      resolve(`the certificates cannot be used (${(error as NodeJS.ErrnoException).code ?? 'unknown reason'})`);
      return;
    }
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
  // Listeners, Redis, files and a few clients, beside full pools.
  const needed = config.upstreamConnectionsMax * (config.upstream?.length ?? 1) + 128;
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
