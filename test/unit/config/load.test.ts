import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { loadConfig, readConfig } from '../../../src/config/load.js';
import { usableCores } from '../../../src/config/usable-cores.js';
import { configKeys, defaultOf, environmentName, reloadableKeys } from '../../../src/config/schema.js';
import { OperatorError } from '../../../src/core/failure.js';

const folder = mkdtempSync(join(tmpdir(), 'tk-config-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let files = 0;
function file(text: string, name = `${++files}.yaml`): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

/** The lines of the error; sources that are our temporary file show as `FILE:line`. */
function problemsOf(yaml: string | undefined, env: Record<string, string> = {}): string[] {
  const configPath = yaml === undefined ? undefined : file(yaml);
  try {
    loadConfig({ configPath, env });
  } catch (error) {
    expect(error).toBeInstanceOf(OperatorError);
    // A key that does not exist is wrong usage.
    expect((error as OperatorError).exitCode).toBe(/: unknown /.test((error as OperatorError).message) ? 2 : 1);
    const lines = (error as OperatorError).message.replaceAll(configPath ?? '\0', 'FILE').split('\n');
    return lines.length === 1 ? lines : lines.slice(1);
  }
  return [];
}

describe('without any source', () => {
  test('every key has its default, keys without one are absent', () => {
    const config = loadConfig({ env: {} });
    for (const key of configKeys) expect(config[key], key).toEqual(defaultOf(key));
    expect(config).toMatchObject({
      listen: '0.0.0.0:8080',
      adminListen: '127.0.0.1:9090',
      workers: usableCores(),
      tokenPrefix: 'tk_live',
    });
    expect('upstream' in config).toBe(false);
  });

  test('variables of other programs are no business of ours', () => {
    expect(problemsOf(undefined, { PATH: '/bin', TOLLKEEPERS: 'x', tollkeeper_workers: '2' })).toEqual([]);
  });
});

describe('each bad value is refused by one exact sentence', () => {
  const ofEnvironment: [Record<string, string>, string][] = [
    [
      { TOLLKEEPER_WORKERS: 'many' },
      'workers: found "many", allowed is a whole number from 1 to 256 (TOLLKEEPER_WORKERS)',
    ],
    [{ TOLLKEEPER_WORKERS: '0' }, 'workers: found 0, allowed is a whole number from 1 to 256 (TOLLKEEPER_WORKERS)'],
    [
      { TOLLKEEPER_WORKERS: '010' },
      'workers: found "010", allowed is a whole number from 1 to 256 (TOLLKEEPER_WORKERS)',
    ],
    [
      { TOLLKEEPER_WORKERS: '1.5' },
      'workers: found "1.5", allowed is a whole number from 1 to 256 (TOLLKEEPER_WORKERS)',
    ],
    [{ TOLLKEEPER_LOG_QUERY: 'yes' }, 'logQuery: found "yes", allowed is true or false (TOLLKEEPER_LOG_QUERY)'],
    [
      { TOLLKEEPER_LISTEN: '8080' },
      'listen: found "8080", allowed is host:port, such as 127.0.0.1:8080 or [::1]:8080, or off (TOLLKEEPER_LISTEN)',
    ],
    [
      { TOLLKEEPER_UPSTREAM: 'http://ops:hunter2@shop:3000' },
      'upstream: found "http://(secret)@shop:3000", allowed is http://host[:port], https://host[:port] or ' +
        'unix:/path/of/socket, or a list of them, without path, query or password (TOLLKEEPER_UPSTREAM)',
    ],
    [
      { TOLLKEEPER_TRUSTED_PROXIES: '10.0.0.0/8, 10.0.0.0/33' },
      'trustedProxies: found "10.0.0.0/33", allowed is a list of addresses and CIDR blocks, such as 10.0.0.0/8 and ::1 ' +
        '(TOLLKEEPER_TRUSTED_PROXIES)',
    ],
    [
      { TOLLKEEPER_LOG_LEVEL: 'loud' },
      'logLevel: found "loud", allowed is one of fatal, error, warn, info, debug, trace, silent (TOLLKEEPER_LOG_LEVEL)',
    ],
    [
      { TOLLKEEPER_TENANT_HOST: 'shop.example.com' },
      'tenantHost: found "shop.example.com", allowed is a host name whose first label is *, such as *.example.com ' +
        '(TOLLKEEPER_TENANT_HOST)',
    ],
    [
      { TOLLKEEPER_HMAC_HEADER_PREFIX: 'X-Forwarded-' },
      'hmacHeaderPrefix: found "X-Forwarded-", allowed is the beginning of a header name, ending in a dash and of your ' +
        'own, such as X-Acme- (TOLLKEEPER_HMAC_HEADER_PREFIX)',
    ],
    [
      { TOLLKEEPER_TOKEN_PREFIX: 'sk-live' },
      'tokenPrefix: found "sk-live", allowed is up to 32 lower-case letters and digits, words joined by _, such as sk_live ' +
        '(TOLLKEEPER_TOKEN_PREFIX)',
    ],
    [
      { TOLLKEEPER_MASTER_KEY: 'short' },
      'masterKey: found (secret), allowed is 32 bytes in base64 or hex (openssl rand -base64 32), or several of them as ' +
        'id:key,id:key (TOLLKEEPER_MASTER_KEY)',
    ],
    [
      { TOLLKEEPER_ADMIN_KEY: 'letmein' },
      'adminKey: found (secret), allowed is at least 16 visible ASCII characters (openssl rand -hex 32) (TOLLKEEPER_ADMIN_KEY)',
    ],
    [
      { TOLLKEEPER_REDIS_URL: 'localhost:6379' },
      'redisUrl: found (secret), allowed is redis://[user:password@]host:port[/db], rediss://… (TLS) or ' +
        'unix:///path[?db=n] (TOLLKEEPER_REDIS_URL)',
    ],
    [
      { TOLLKEEPER_UPSTREM: 'http://shop' },
      'TOLLKEEPER_UPSTREM: unknown variable, did you mean TOLLKEEPER_UPSTREAM? (environment)',
    ],
    [
      { TOLLKEEPER_FAVOURITE_COLOUR: 'red' },
      'TOLLKEEPER_FAVOURITE_COLOUR: unknown variable; docs/configuration.md lists them all (environment)',
    ],
    [
      { TOLLKEEPER_WORKERS_FILE: '/x' },
      'TOLLKEEPER_WORKERS_FILE: unknown variable; docs/configuration.md lists them all (environment)',
    ],
    [
      { TOLLKEEPER_ADMIN_KEY_FILE: '/no/such/file' },
      'adminKey: cannot read /no/such/file (no such file) (TOLLKEEPER_ADMIN_KEY_FILE)',
    ],
    [{ TOLLKEEPER_TLS_CERT: '/etc/tls.crt' }, 'tlsCert: set without tlsKey; set both or neither (TOLLKEEPER_TLS_CERT)'],
    [
      { TOLLKEEPER_REDIS_TLS_KEY: '/etc/redis.key' },
      'redisTlsKey: set without redisTlsCert; set both or neither (TOLLKEEPER_REDIS_TLS_KEY)',
    ],
    [
      { TOLLKEEPER_REDIS_TLS_CA: '/etc/ca.crt', TOLLKEEPER_REDIS_URL: 'redis://db' },
      'redisTlsCa: set, but Redis is reached without TLS; use a rediss:// URL or remove it (TOLLKEEPER_REDIS_TLS_CA)',
    ],
    [
      { TOLLKEEPER_ADMIN_LISTEN: '127.0.0.1:8080' },
      'adminListen: found port 8080, which listen takes too; give each its own (TOLLKEEPER_ADMIN_LISTEN)',
    ],
    [
      { TOLLKEEPER_UPSTREAM: 'http://localhost:8080' },
      'upstream: found "http://localhost:8080", which is where listen takes requests; it must be the API behind it ' +
        '(TOLLKEEPER_UPSTREAM)',
    ],
    [
      { TOLLKEEPER_UPSTREAM: 'http://a, http://b, http://a:80' },
      'upstream: found "http://a" twice; name each address once (TOLLKEEPER_UPSTREAM)',
    ],
    [
      { TOLLKEEPER_UPSTREAM: 'http://a, https://b:8080, http://127.0.0.1:8080' },
      'upstream: found "http://127.0.0.1:8080", which is where listen takes requests; it must be the API behind it ' +
        '(TOLLKEEPER_UPSTREAM)',
    ],
    [
      { TOLLKEEPER_UPSTREAM: 'http://a,unix:/b', TOLLKEEPER_UPSTREAM_TLS_CA: '/etc/ca.pem' },
      'upstreamTlsCa: set, but no upstream is reached by TLS; use an https:// address or remove it ' +
        '(TOLLKEEPER_UPSTREAM_TLS_CA)',
    ],
    [
      { TOLLKEEPER_UPSTREAM: 'https://a', TOLLKEEPER_UPSTREAM_TLS_KEY: '/etc/key.pem' },
      'upstreamTlsKey: set without upstreamTlsCert; set both or neither (TOLLKEEPER_UPSTREAM_TLS_KEY)',
    ],
  ];
  test.each(ofEnvironment)('environment %j', (env, sentence) => {
    expect(problemsOf(undefined, env)).toEqual([sentence]);
  });

  const ofFile: [string, string][] = [
    ['workers: "4"', 'workers: found "4", allowed is a whole number from 1 to 256 (FILE:1)'],
    ['# a comment\n\nworkers:', 'workers: found nothing, allowed is a whole number from 1 to 256 (FILE:3)'],
    ['workers: [1]', 'workers: found a list, allowed is a whole number from 1 to 256 (FILE:1)'],
    ['logQuery: {on: true}', 'logQuery: found a mapping, allowed is true or false (FILE:1)'],
    [
      'trustedProxies:\n  - 10.0.0.0/8\n  - 10.1',
      'trustedProxies: found 10.1, allowed is a list of addresses and CIDR blocks, such as 10.0.0.0/8 and ::1 (FILE:3)',
    ],
    [
      'trustedProxies: 10.0.0.0/8',
      'trustedProxies: found "10.0.0.0/8", allowed is a list of addresses and CIDR blocks, such as 10.0.0.0/8 and ::1 (FILE:1)',
    ],
    [
      'masterKey: 12345',
      'masterKey: found (secret), allowed is 32 bytes in base64 or hex (openssl rand -base64 32), or several of them as id:key,id:key (FILE:1)',
    ],
    ['tlsCert: ""\ntlsKey: k', 'tlsCert: found "", allowed is the path of a file (FILE:1)'],
    [
      'policy: []',
      'policy: found a list, allowed is the path of a policy file, or in the YAML file the policy itself (FILE:1)',
    ],
    ['upstrem: http://shop', 'upstrem: unknown key, did you mean upstream? (FILE:1)'],
    ['redis-url: redis://db', 'redis-url: unknown key, did you mean redisUrl? (FILE:1)'],
    ['__proto__: {workers: 3}', '__proto__: unknown key; docs/configuration.md lists them all (FILE:1)'],
    ['adminKeyFile: [x]', 'adminKeyFile: must be the path of a file that holds the value (FILE:1)'],
    ['workers: 1\nlisten: "[::]:0"\nworkers: 2', 'FILE: the same key stands twice; keep one (FILE:3)'],
    ['policy:\n  default: deny\n  default: deny', 'FILE: the same key stands twice; keep one (FILE:3)'],
    ['workers: 1\n---\nworkers: 2', 'FILE: holds more than one document; keep one (FILE:2)'],
    ['workers: *other', 'workers: uses an alias (*name) that is not defined before it, or too many of them (FILE:1)'],
    ['- workers', 'FILE: must hold keys with values, such as "workers: 2" (FILE:1)'],
    [
      'adminKey: 0123456789abcdef\nadminKeyFile: elsewhere',
      `adminKey: cannot read ${join(folder, 'elsewhere')} (no such file) (FILE:2)`,
    ],
  ];
  test('a key that stands twice hides no other problem of the file', () => {
    const yaml = 'workers: 1\nworkers: 2\nupstrem: http://shop\nlogLevel: loud';
    expect(problemsOf(yaml)).toEqual([
      'FILE: the same key stands twice; keep one (FILE:2)',
      'upstrem: unknown key, did you mean upstream? (FILE:3)',
      'logLevel: found "loud", allowed is one of fatal, error, warn, info, debug, trace, silent (FILE:4)',
    ]);
  });

  test.each(ofFile)('file %j', (yaml, sentence) => {
    expect(problemsOf(yaml)).toEqual([sentence]);
  });

  test('a configuration file that is not there is named', () => {
    const configPath = join(folder, 'none.yaml');
    expect(() => loadConfig({ configPath, env: {} })).toThrow(
      `${configPath}: cannot read the configuration file (no such file) (--config)`,
    );
  });

  test('an empty secret file is refused', () => {
    const path = file('\n', 'empty');
    expect(problemsOf(undefined, { TOLLKEEPER_ADMIN_KEY_FILE: path })).toEqual([
      `adminKey: ${path} is empty; it must hold the value (TOLLKEEPER_ADMIN_KEY_FILE)`,
    ]);
  });

  test('a secret set by value and by file in one source is refused', () => {
    const path = file('0123456789abcdef', 'twice');
    expect(
      problemsOf(undefined, { TOLLKEEPER_ADMIN_KEY_FILE: path, TOLLKEEPER_ADMIN_KEY: 'fedcba9876543210' }),
    ).toEqual(['adminKey: set twice, here and by TOLLKEEPER_ADMIN_KEY; keep one (TOLLKEEPER_ADMIN_KEY_FILE)']);
  });
});

describe('all problems are named at once', () => {
  test('of every source, also of a value that a later source hides', () => {
    const found = problemsOf('workers: 0\nlisten: nowhere\nnonsense: 1', {
      TOLLKEEPER_WORKERS: '2',
      TOLLKEEPER_LOG_QUERY: '1',
      TOLLKEEPER_TLS_CERT: 'a',
    });
    expect(found.map((line) => `${line.split(':')[0]} ${/\(([^()]*)\)$/.exec(line)?.[1]}`)).toEqual([
      'nonsense FILE:3',
      'listen FILE:2',
      'workers FILE:1',
      'logQuery TOLLKEEPER_LOG_QUERY',
      'tlsCert TOLLKEEPER_TLS_CERT',
    ]);
  });

  test('the message counts them and gives each a line of its own', () => {
    expect(() => loadConfig({ env: { TOLLKEEPER_WORKERS: 'x', TOLLKEEPER_LOG_QUERY: 'y' } })).toThrow(
      'the configuration has 2 problems:\n' +
        'workers: found "x", allowed is a whole number from 1 to 256 (TOLLKEEPER_WORKERS)\n' +
        'logQuery: found "y", allowed is true or false (TOLLKEEPER_LOG_QUERY)',
    );
  });

  test('a value that cannot be read is not taken for a missing half of a pair', () => {
    expect(problemsOf('tlsCert: 5', { TOLLKEEPER_TLS_KEY: 'k' })).toEqual([
      'tlsCert: found 5, allowed is the path of a file (FILE:1)',
    ]);
  });
});

describe('precedence: default, file, environment, flag', () => {
  const yaml = 'workers: 2\nlogFlushIntervalMs: 20\nrecordCacheMax: 200';
  const env = { TOLLKEEPER_WORKERS: '3', TOLLKEEPER_LOG_FLUSH_INTERVAL_MS: '30' };

  test('the later source wins, key by key', () => {
    const config = loadConfig({ configPath: file(yaml), env, flags: { workers: '4', listen: undefined } });
    expect(config).toMatchObject({ workers: 4, logFlushIntervalMs: 30, recordCacheMax: 200, listen: '0.0.0.0:8080' });
  });

  test('a bad flag is named as the flag', () => {
    expect(readConfig({ env: {}, flags: { logFlushIntervalMs: 'soon' } }).problems).toMatchObject([
      { key: 'logFlushIntervalMs', source: '--log-flush-interval-ms' },
    ]);
  });

  test('an empty variable does not hide the file', () => {
    expect(loadConfig({ configPath: file(yaml), env: { TOLLKEEPER_WORKERS: '' } }).workers).toBe(2);
  });

  test('every key can be set in the environment and in the file', () => {
    const examples: Record<string, [text: string, yaml: unknown]> = {
      trustedProxies: ['10.0.0.0/8,::1', ['10.0.0.0/8', '::1']],
      logQuery: ['true', true],
      workers: ['7', 7],
      upstream: ['https://shop:3000,unix:/run/b.sock', ['https://shop:3000', 'unix:/run/b.sock']],
    };
    for (const [key, [text, value]] of Object.entries(examples)) {
      const fromEnv = loadConfig({ env: { [environmentName(key)]: text } });
      const fromFile = loadConfig({ configPath: file(JSON.stringify({ [key]: value })), env: {} });
      expect(fromEnv[key as 'workers']).toEqual(value);
      expect(fromFile).toEqual(fromEnv);
    }
  });

  test('a single upstream may stand in the file without a list', () => {
    expect(loadConfig({ configPath: file('upstream: http://shop:3000'), env: {} }).upstream).toEqual([
      'http://shop:3000',
    ]);
  });
});

describe('secrets', () => {
  test('are read from the file that the environment or the configuration names, without its line break', () => {
    mkdirSync(join(folder, 'secrets'), { recursive: true });
    const path = file('0123456789abcdef\n', 'secrets/admin');
    expect(loadConfig({ env: { TOLLKEEPER_ADMIN_KEY_FILE: path } }).adminKey).toBe('0123456789abcdef');
    const configPath = file('adminKeyFile: secrets/admin');
    expect(loadConfig({ configPath, env: {} }).adminKey).toBe('0123456789abcdef');
  });

  test('in the environment win over a file that the configuration names', () => {
    file('0123456789abcdef', 'older');
    const configPath = file('adminKeyFile: older');
    expect(loadConfig({ configPath, env: { TOLLKEEPER_ADMIN_KEY: 'fedcba9876543210' } }).adminKey).toBe(
      'fedcba9876543210',
    );
  });

  test('never appear in a problem, wherever and however malformed they are given', () => {
    const canary = fc.stringMatching(/^[A-Za-z0-9+:]{24,40}$/).map((text) => `CANARY${text}`);
    fc.assert(
      fc.property(canary, fc.nat(5), (secret, form) => {
        const forms = [
          [`adminKey: ${secret} b\nworkers: x`, {}],
          [`masterKey: [${secret}]`, {}],
          [`{adminKey:${secret}, masterKey: 1}`, {}],
          [`redisUrl: redis://user:${secret}@:bad\n\tworkers: 1`, {}],
          [`adminKey: "${secret}\nworkers: "`, { TOLLKEEPER_MASTER_KEY: secret }],
          [`adminKey: '${secret}' '${secret}'\n? [${secret}]`, { TOLLKEEPER_MASTERKEY: secret }],
        ] as [string, Record<string, string>][];
        const [yaml, env] = forms[form] as [string, Record<string, string>];
        const urls = { TOLLKEEPER_REDIS_URL: `http://:${secret}@h`, TOLLKEEPER_UPSTREAM: `http://u:${secret}/@h/x@y` };
        const found = problemsOf(yaml, { ...env, ...urls });
        expect(found.length).toBeGreaterThan(1);
        expect(found.join('\n')).not.toContain(secret);
        expect(found.join('\n')).not.toContain('CANARY');
      }),
      { numRuns: 60 },
    );
  });
});

describe('paths and the policy', () => {
  test('relative paths start from the folder of the file', () => {
    const configPath = file('tlsCert: tls/cert.pem\ntlsKey: /abs/key.pem\npolicy: policy.yaml');
    expect(loadConfig({ configPath, env: {} })).toMatchObject({
      tlsCert: join(folder, 'tls/cert.pem'),
      tlsKey: '/abs/key.pem',
      policy: { kind: 'file', path: join(folder, 'policy.yaml') },
    });
  });

  test('relative paths in the environment start from the working directory', () => {
    expect(loadConfig({ env: { TOLLKEEPER_POLICY: 'policy.yaml' } }).policy).toEqual({
      kind: 'file',
      path: join(process.cwd(), 'policy.yaml'),
    });
  });

  test('a policy in place keeps the lines of its elements', () => {
    const configPath = file(
      'workers: 1\n\npolicy:\n  default: deny\n  routes:\n    - path: /a\n      cost: 1\n    - path: /b\n',
    );
    const { policy } = loadConfig({ configPath, env: {} });
    if (policy?.kind !== 'inline') throw new Error('expected a policy in place');
    expect(policy).toMatchObject({
      value: { default: 'deny', routes: [{ path: '/a', cost: 1 }, { path: '/b' }] },
      source: configPath,
      line: 3,
    });
    expect(policy.lineOf(['routes', 0, 'cost'])).toBe(7);
    expect(policy.lineOf(['routes', 1, 'cost'])).toBe(8);
    expect(policy.lineOf(['scopes'])).toBe(3);
  });

  test('the policy is the only key that a running process takes over', () => {
    expect(reloadableKeys).toEqual(['policy']);
  });
});

test('variables that Kubernetes sets for a Service named tollkeeper are ignored', () => {
  const env = {
    TOLLKEEPER_SERVICE_HOST: '10.0.0.1',
    TOLLKEEPER_SERVICE_PORT: '8080',
    TOLLKEEPER_SERVICE_PORT_HTTP: '8080',
    TOLLKEEPER_PORT: 'tcp://10.0.0.1:8080',
    TOLLKEEPER_PORT_8080_TCP: 'tcp://10.0.0.1:8080',
    TOLLKEEPER_PORT_8080_TCP_ADDR: '10.0.0.1',
    TOLLKEEPER_ADMIN_SERVICE_HOST: '10.0.0.2',
  };
  expect(problemsOf(undefined, env)).toEqual([]);
  expect(problemsOf(undefined, { TOLLKEEPER_PORT: '8080' })).toHaveLength(1);
});
