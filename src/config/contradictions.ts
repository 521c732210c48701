/** Values that are right each by itself and cannot hold together. */
import { type Address, parseAddress, parseUpstreamAddress, type UpstreamAddress } from './formats.js';
import { type ConfigKey, defaultOf } from './schema.js';
import type { ConfigProblem, Setting } from './sources.js';

/** A problem that is nobody's alone: `keys` are all that take part in it. */
interface Contradiction extends ConfigProblem {
  readonly keys: readonly ConfigKey[];
}

type Settings = ReadonlyMap<ConfigKey, Setting>;
type ListenKey = 'listen' | 'verifyListen' | 'adminListen';

/** Every contradiction among `settings`, which the schema has accepted one by one. */
export function contradictionsIn(settings: Settings): Contradiction[] {
  return [
    ...halfPair(settings, 'tlsCert', 'tlsKey'),
    ...halfPair(settings, 'redisTlsCert', 'redisTlsKey'),
    ...halfPair(settings, 'redisSentinels', 'redisSentinelName'),
    ...severalRedis(settings),
    ...accessWithoutNodes(settings),
    ...halfPair(settings, 'upstreamTlsCert', 'upstreamTlsKey'),
    ...tlsFilesWithoutTls(settings),
    ...listenersCollide(settings),
    ...nothingListens(settings),
    ...upstreamIsItself(settings),
    ...upstreamNamedTwice(settings),
    ...upstreamTlsWithoutTls(settings),
  ];
}

function halfPair(settings: Settings, one: ConfigKey, other: ConfigKey): Contradiction[] {
  if (settings.has(one) === settings.has(other)) return [];
  const [present, absent] = settings.has(one) ? [one, other] : [other, one];
  const source = settings.get(present)?.source ?? '';
  return [{ key: present, message: `set without ${absent}; set both or neither`, source, keys: [one, other] }];
}

const redisKeys = ['redisUrl', 'redisCluster', 'redisSentinels'] as const;

/** Tokens lie in one place. */
function severalRedis(settings: Settings): Contradiction[] {
  const present = redisKeys.filter((key) => settings.has(key));
  const [first, ...others] = present;
  return others.map((key) => ({
    key,
    message: `set, and ${first} too (${settings.get(first as ConfigKey)?.source}); tokens lie in one Redis, so keep one of them`,
    source: settings.get(key)?.source ?? '',
    keys: present,
  }));
}

/** Users, passwords and TLS that no connection would use: the operator takes for protected what is not. */
function accessWithoutNodes(settings: Settings): Contradiction[] {
  const hasSentinels = settings.has('redisSentinels');
  const hasNodes = hasSentinels || settings.has('redisCluster');
  const unused = (key: ConfigKey, used: boolean, advice: string): Contradiction[] => {
    const setting = settings.get(key);
    if (setting === undefined || setting.value === false || used) return [];
    return [{ key, message: `set, but ${advice}`, source: setting.source, keys: [key, ...redisKeys] }];
  };
  const inUrl = settings.has('redisUrl');
  const forNodes = inUrl
    ? 'redisUrl is used, and user, password and TLS stand in it (rediss://user:password@host)'
    : 'neither redisCluster nor redisSentinels is set; remove it';
  const forSentinels = 'redisSentinels is not set; remove it';
  return [
    ...unused('redisUser', hasNodes, forNodes),
    ...unused('redisPassword', hasNodes, forNodes),
    ...unused('redisTls', hasNodes, forNodes),
    ...unused('redisSentinelUser', hasSentinels, forSentinels),
    ...unused('redisSentinelPassword', hasSentinels, forSentinels),
  ];
}

function tlsFilesWithoutTls(settings: Settings): Contradiction[] {
  const urls = (['redisUrl', 'logRedisUrl'] as const).flatMap((key) => (settings.get(key)?.value as string) ?? []);
  const hasNodes = settings.has('redisCluster') || settings.has('redisSentinels');
  if (urls.length === 0 && !hasNodes) return [];
  if (urls.some((url) => url.startsWith('rediss:')) || settings.get('redisTls')?.value === true) return [];
  const remedy = hasNodes ? 'set redisTls' : 'use a rediss:// URL';
  return (['redisTlsCa', 'redisTlsCert', 'redisTlsKey'] as const).flatMap((key) => {
    const setting = settings.get(key);
    const message = `set, but Redis is reached without TLS; ${remedy} or remove it`;
    return setting === undefined
      ? []
      : [{ key, message, source: setting.source, keys: [key, 'redisTls', 'logRedisUrl', ...redisKeys] }];
  });
}

function listenersCollide(settings: Settings): Contradiction[] {
  return [
    ...samePort(settings, 'listen', 'adminListen'),
    ...samePort(settings, 'listen', 'verifyListen'),
    ...samePort(settings, 'verifyListen', 'adminListen'),
  ];
}

function samePort(settings: Settings, one: ListenKey, other: ListenKey): Contradiction[] {
  const first = addressOf(settings, one);
  const second = addressOf(settings, other);
  if (first.port === 0 || first.port !== second.port) return [];
  if (first.host !== second.host && !isAnyHost(first.host) && !isAnyHost(second.host)) return [];
  const setting = settings.get(other) ?? settings.get(one);
  return [
    {
      key: other,
      message: `found port ${second.port}, which ${one} takes too; give each its own`,
      source: setting?.source ?? 'default',
      keys: [one, other],
    },
  ];
}

function nothingListens(settings: Settings): Contradiction[] {
  const data = settings.get('listen');
  if (data?.value !== 'off' || settings.get('verifyListen')?.value !== 'off') return [];
  const message = 'found off, and verifyListen is off too; there would be nothing to ask';
  return [{ key: 'listen', message, source: data.source, keys: ['listen', 'verifyListen'] }];
}

/** An upstream that is our own data port would forward every request in a circle. */
function upstreamIsItself(settings: Settings): Contradiction[] {
  const setting = settings.get('upstream');
  const data = addressOf(settings, 'listen');
  return upstreamAddresses(setting).flatMap((address) => {
    if (address.kind !== 'tcp' || setting === undefined) return [];
    const { host, port } = address;
    const local = host === 'localhost' || host === '::1' || host.startsWith('127.') || isAnyHost(host);
    if (port !== data.port || !(host === data.host || (local && isAnyHost(data.host)))) return [];
    const message = `found "${address.text}", which is where listen takes requests; it must be the API behind it`;
    return [{ key: 'upstream', message, source: setting.source, keys: ['upstream', 'listen'] }];
  });
}

function upstreamNamedTwice(settings: Settings): Contradiction[] {
  const setting = settings.get('upstream');
  const texts = upstreamAddresses(setting).map(({ text }) => text);
  const twice = texts.find((text, at) => texts.indexOf(text) < at);
  if (twice === undefined || setting === undefined) return [];
  const message = `found "${twice}" twice; name each address once`;
  return [{ key: 'upstream', message, source: setting.source, keys: ['upstream'] }];
}

function upstreamTlsWithoutTls(settings: Settings): Contradiction[] {
  const addresses = upstreamAddresses(settings.get('upstream'));
  if (addresses.length === 0 || addresses.some((address) => address.kind === 'tcp' && address.isTls)) return [];
  return (['upstreamTlsCa', 'upstreamTlsCert', 'upstreamTlsKey', 'upstreamTlsName'] as const).flatMap((key) => {
    const setting = settings.get(key);
    const message = 'set, but no upstream is reached by TLS; use an https:// address or remove it';
    return setting === undefined ? [] : [{ key, message, source: setting.source, keys: [key, 'upstream'] }];
  });
}

function upstreamAddresses(setting: Setting | undefined): UpstreamAddress[] {
  const texts = Array.isArray(setting?.value) ? setting.value : [];
  return texts.flatMap((text) => parseUpstreamAddress(String(text)) ?? []);
}

/** Port 0, which collides with nothing, for a listener that is off. */
function addressOf(settings: Settings, key: ListenKey): Address {
  return parseAddress(String(settings.get(key)?.value ?? defaultOf(key))) ?? { host: '', port: 0 };
}

function isAnyHost(host: string): boolean {
  return host === '0.0.0.0' || host === '::';
}
