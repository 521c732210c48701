/** The records, claims and limits in Redis as they are now, read and never written. */
import { type Preview, previewAdmission, type PreviewTicket } from '../admission/preview.js';
import { OperatorError } from '../core/failure.js';
import { keys, recordFields } from '../redis/keys.js';
import { requireInstallation } from '../redis/meta.js';
import type { Store } from '../redis/store.js';
import { RecordError } from '../tenant/record-reader.js';
import { type PreparedTenant, type PreparedToken, prepareTenant, prepareToken } from '../token/cache.js';
import { findForeignId } from '../token/foreign-lookup.js';

/**
 * With a tenant in `within`, a token of another one is the same as one that there is not: whoever asks for an owner learns
 * nothing of other tenants.
 *
 * Every method throws StoreUnavailableError when Redis cannot be asked, OperatorError when a record is damaged.
 */
export class LiveRecords {
  readonly #store: Store;
  readonly #within: string | undefined;

  constructor(store: Store, within?: string) {
    this.#store = store;
    this.#within = within;
  }

  async token(id: string): Promise<PreparedToken | undefined> {
    if (!(await this.#isWithin(id))) return undefined;
    const json = await this.#record(keys.token(id));
    return json === null ? undefined : readable(json, prepareToken);
  }

  async tenant(slug: string): Promise<PreparedTenant | undefined> {
    const json = await this.#record(keys.tenant(slug));
    return json === null ? undefined : readable(json, prepareTenant);
  }

  /** Id of the token imported with this SHA-256, null when there is none. */
  async foreignId(digest: Buffer): Promise<string | null> {
    const id = await this.#store.ask(() => findForeignId(this.#store.redis, '', digest.toString('hex')));
    return id !== null && (await this.#isWithin(id)) ? id : null;
  }

  /** Whether a signature was used; `claim` and `claimKey` as in an AdmissionTicket. */
  async isClaimed(claimKey: string, claim: string): Promise<boolean> {
    return (await this.#store.ask(() => this.#store.redis.sismember(claimKey, Buffer.from(claim, 'hex')))) === 1;
  }

  preview(ticket: PreviewTicket): Promise<Preview> {
    return this.#store.ask(async () => {
      const { installation } = await requireInstallation(this.#store.redis);
      return previewAdmission(this.#store.redis, installation, ticket);
    });
  }

  /** Redis' clock, Unix ms. */
  async nowMs(): Promise<number> {
    const [seconds, microseconds] = await this.#store.ask(() => this.#store.redis.time());
    return Number(seconds) * 1000 + Math.floor(Number(microseconds) / 1000);
  }

  /** The same command for an id of another tenant and for one that is free. */
  async #isWithin(id: string): Promise<boolean> {
    const within = this.#within;
    if (within === undefined) return true;
    return (await this.#store.ask(() => this.#store.redis.zscore(keys.tenantTokens(within), id))) !== null;
  }

  #record(key: string): Promise<string | null> {
    return this.#store.ask(() => this.#store.redis.hget(key, recordFields.record));
  }
}

function readable<T>(json: string, prepare: (json: string) => T): T {
  try {
    return prepare(json);
  } catch (error) {
    if (!(error instanceof RecordError)) throw error;
    throw new OperatorError(`${error.message}: restore it from a backup; until then its requests get 503.`);
  }
}
