/** A token's settings as flags, and what the drafts of src/token make of them. */
import { type Command, InvalidArgumentError } from 'commander';
import { limitKey } from '../admission/limit.js';
import { completeLimit, furtherLimitInput } from '../tenant/limit-draft.js';
import { parseInput } from '../tenant/parse-input.js';
import type { TokenView } from '../token/token.js';
import {
  addRateLimitOptions,
  type LimitFlag,
  limitFlag,
  quotaFlag,
  type RateLimitFlags,
  rateLimitOf,
} from './limit-flags.js';

interface SettingFlags extends RateLimitFlags {
  readonly name?: string;
  readonly description?: string;
  readonly scopes?: readonly string[];
  readonly addLimit?: readonly LimitFlag[];
  readonly quota?: LimitFlag | 'none';
  readonly expiresAt?: string;
  readonly subject?: string;
  readonly allowIp?: readonly string[];
  readonly metadata?: Readonly<Record<string, string>>;
  readonly lease?: boolean;
}

export interface TokenFlags extends SettingFlags {
  readonly tenant?: string;
  readonly mode?: string;
}

export interface UpdateFlags extends SettingFlags {
  readonly clearLimits?: true;
  readonly unsetMetadata?: readonly string[];
}

/** Flags that creation, import and update share. */
export function addSettingOptions(command: Command): Command {
  return addRateLimitOptions(command)
    .option('--scopes <list>', 'scopes, separated by commas', commaList)
    .option('--description <text>', 'description for people')
    .option('--add-limit <limit>', 'a further limit, such as 10/1s or 5/10s:token-bucket; repeatable', collectLimit)
    .option('--quota <quota>', 'calls in a calendar day or month (UTC), such as 100000/month', quotaFlag)
    .option('--expires-at <time>', 'RFC 3339 time, or a time from now such as 30d')
    .option('--subject <text>', 'whose data the token may see; sent upstream')
    .option(
      '--allow-ip <list>',
      'addresses and CIDRs it may be used from, separated by commas; repeatable',
      collectList,
    )
    .option('--metadata <key=value>', 'a note of your own; repeatable', collectPair)
    .option('--lease', 'while it is very hot, charge units up to 100 ms in advance (docs/rate-limiting.md)')
    .option('--no-lease', 'charge each request by itself (the default)');
}

/** The flags of `token update`. */
export function addUpdateOptions(command: Command): Command {
  command.option('--name <name>', 'name for people');
  return addSettingOptions(command)
    .option('--clear-limits', 'take all further limits away (before --add-limit)')
    .option('--unset-metadata <key>', 'take a note away; repeatable', collectText)
    .addHelpText('after', '\n--expires-at never, --quota none, --subject "" and --allow-ip "" take those away.');
}

/** What parseTokenDraft and parseImportDraft take. */
export function draftInput(flags: SettingFlags) {
  return {
    name: flags.name,
    ...given({
      description: flags.description,
      scopes: flags.scopes,
      rateLimit: rateLimitOf(flags),
      limits: flags.addLimit,
      quota: flags.quota === 'none' ? null : flags.quota,
      expiresAt: flags.expiresAt === 'never' ? null : flags.expiresAt,
      subject: flags.subject === '' ? null : flags.subject,
      allowedIps: flags.allowIp,
      metadata: flags.metadata,
      lease: flags.lease,
    }),
  };
}

/** What parseTokenChanges takes, for the record as it is now: a limit that is added replaces its equal. */
export function changesInput(flags: UpdateFlags, record: Pick<TokenView, 'limits'>) {
  const { limits: added = [], metadata, ...changes } = draftInput(flags);
  const unset = Object.fromEntries((flags.unsetMetadata ?? []).map((key) => [key, null]));
  const replaced = new Set(added.map((limit) => limitKey(completeLimit(parseInput(furtherLimitInput, limit)))));
  const kept = flags.clearLimits === true ? [] : record.limits.filter((limit) => !replaced.has(limitKey(limit)));
  const limitsChange = flags.clearLimits === true || added.length > 0 ? { limits: [...kept, ...added] } : {};
  return given({ ...changes, ...limitsChange, metadata: { ...unset, ...metadata } });
}

function given<T extends object>(fields: T): Partial<T> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Partial<T>;
}

function commaList(text: string): string[] {
  return text === '' ? [] : text.split(',').map((item) => item.trim());
}

function collectList(text: string, before: readonly string[] = []): string[] {
  return [...before, ...commaList(text)];
}

function collectText(text: string, before: readonly string[] = []): string[] {
  return [...before, text];
}

function collectLimit(text: string, before: readonly LimitFlag[] = []): LimitFlag[] {
  return [...before, limitFlag(text)];
}

function collectPair(text: string, before: Readonly<Record<string, string>> = {}): Record<string, string> {
  const end = text.indexOf('=');
  if (end < 1) throw new InvalidArgumentError('It must read like key=value.');
  return Object.fromEntries([...Object.entries(before), [text.slice(0, end), text.slice(end + 1)]]);
}
