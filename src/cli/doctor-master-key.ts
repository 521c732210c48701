/** Whether the master keys that `tollkeeper doctor` was given open the secrets of the HMAC tokens there are. */
import type { Config } from '../config/schema.js';
import { type MasterKeys, openSecret, parseMasterKeys, sealingKeyId } from '../credential/sealed-secret.js';
import type { RedisConnection } from '../redis/target.js';
import { RecordError } from '../tenant/record-reader.js';
import { type ScannedToken, scanTokens } from '../token/scan.js';
import { decodeTokenRecord, type TokenRecord } from '../token/token.js';
import { type Check, fail, ok, warn } from './doctor-check.js';

/** Tokens looked at, at most: a second or two. */
const tokensMax = 20_000;
const pageTokens = 200;

interface Census {
  tokens: number;
  /** In mode hmac. */
  hmac: number;
  /** Sealed, and under another key than the first. */
  older: number;
  unopened: number;
  /** Ids of keys that are needed and were not given. */
  readonly missingKeys: Set<string>;
  isWhole: boolean;
}

/** @throws what the connection says. */
export async function checkMasterKey(redis: RedisConnection, config: Config): Promise<Check> {
  const keys = config.masterKey === undefined ? undefined : parseMasterKeys(config.masterKey);
  return judge(await count(redis, keys), keys);
}

async function count(redis: RedisConnection, keys: MasterKeys | undefined): Promise<Census> {
  const census: Census = { tokens: 0, hmac: 0, older: 0, unopened: 0, missingKeys: new Set(), isWhole: true };
  for await (const page of scanTokens(redis, pageTokens)) {
    if (census.tokens >= tokensMax) {
      census.isWhole = false;
      break;
    }
    census.tokens += page.length;
    for (const token of page) take(token, keys, census);
  }
  return census;
}

function take({ id, json }: ScannedToken, keys: MasterKeys | undefined, census: Census): void {
  let record: TokenRecord;
  try {
    record = decodeTokenRecord(json);
  } catch (error) {
    if (error instanceof RecordError) return;
    throw error;
  }
  if (record.mode !== 'hmac') return;
  census.hmac++;
  const sealed = [record.sealedSecret, record.previousSealedSecret].filter((secret) => secret !== null);
  const unopened = sealed.filter((secret) => keys === undefined || openSecret(secret, id, keys).secret === undefined);
  for (const secret of unopened) {
    const keyId = sealingKeyId(secret);
    if (keys?.byId.has(keyId) !== true) census.missingKeys.add(keyId);
  }
  if (unopened.length > 0 || record.sealedSecret === null) census.unopened++;
  else if (sealed.some((secret) => sealingKeyId(secret) !== keys?.sealing.id)) census.older++;
}

function judge(census: Census, keys: MasterKeys | undefined): Check {
  const check = 'masterKey';
  const { tokens, hmac, older, unopened, isWhole } = census;
  const among = isWhole ? '' : `, among the first ${tokens} tokens`;
  if (hmac === 0) return ok(check, `${keys === undefined ? 'not set' : 'set'}; there are no HMAC tokens${among}`);
  const missing = [...census.missingKeys].filter((keyId) => keyId !== '').join(', ');
  if (keys === undefined) {
    const todo = `Set TOLLKEEPER_MASTER_KEY to the key they are sealed under (id ${missing}): until then they get 503.`;
    return fail(check, `not set, and there are ${hmac} HMAC tokens${among}`, todo);
  }
  if (unopened > 0) {
    const found = `${unopened} of ${hmac} HMAC tokens cannot be opened${among}`;
    const todo =
      missing === ''
        ? 'Their secrets were altered, or sealed under another key of the same id: correct TOLLKEEPER_MASTER_KEY or rotate them.'
        : `Add the missing key (id ${missing}) to TOLLKEEPER_MASTER_KEY, or rotate them: until then they get 503.`;
    return fail(check, found, todo);
  }
  if (older === 0) return ok(check, `opens all ${hmac} HMAC tokens${among}`);
  const todo = 'Once every sidecar has the new key: tollkeeper token rekey, then take the old key out of the list.';
  return warn(check, `${older} of ${hmac} HMAC tokens are sealed under an older key${among}`, todo);
}
