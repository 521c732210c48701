/**
 * Watches the installation behind the data plane: which Redis this is, and whether it is still the same.
 *
 * A Redis that came back empty, or another one under the same address, must not be taken for "no token exists": its
 * installation id differs, admission answers 503, and this says so until the operator restarts on purpose.
 *
 * A Redis that may evict records is a warning and no reason: every sidecar would leave the load balancer at once, for
 * something that has not happened yet.
 */
import { evictionRisk } from '../redis/eviction.js';
import { readInstallation } from '../redis/meta.js';
import type { RedisConnection } from '../redis/target.js';
import type { Logger } from '../telemetry/logger.js';

const checkIntervalMs = 1000;

export interface ReadinessReport {
  readonly ready: boolean;
  /** One sentence each for the operator. */
  readonly reasons: string[];
  /** What endangers the installation and refuses nothing yet, one sentence each. */
  readonly warnings: string[];
}

export class Readiness {
  readonly #redis: RedisConnection;
  readonly #logger: Logger;
  readonly #adopt: (installation: string) => void;
  readonly #others: () => string[];
  #adopted = '';
  #fault = 'Redis has not answered yet.';
  #warning = '';
  /** What was logged last. */
  #reported = this.#fault;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  /**
   * `redis` is the control connection. `adopt` hears the installation id once, when the first one is seen. `others` adds
   * reasons of other parts (breaker, draining).
   */
  constructor(redis: RedisConnection, logger: Logger, adopt: (installation: string) => void, others: () => string[]) {
    this.#redis = redis;
    this.#logger = logger;
    this.#adopt = adopt;
    this.#others = others;
  }

  /** Checks now and then every second; answers after the first check. */
  async start(): Promise<void> {
    await this.#check();
    this.#schedule();
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  report(): ReadinessReport {
    const reasons = [...(this.#fault === '' ? [] : [this.#fault]), ...this.#others()];
    return { ready: reasons.length === 0, reasons, warnings: this.#warning === '' ? [] : [this.#warning] };
  }

  #schedule(): void {
    if (this.#stopped) return;
    this.#timer = setTimeout(() => {
      void this.#check().then(() => this.#schedule());
    }, checkIntervalMs);
    this.#timer.unref();
  }

  async #check(): Promise<void> {
    const fault = await this.#findFault();
    this.#fault = fault;
    if (fault === '') await this.#findWarning();
    const reason = this.report().reasons.join(' ');
    if (reason === this.#reported || this.#stopped) return;
    this.#reported = reason;
    if (reason === '') this.#logger.info({ installation: this.#adopted }, 'ready');
    else this.#logger.error({ reason }, 'not ready');
  }

  async #findWarning(): Promise<void> {
    const warning = await evictionRisk(this.#redis);
    if (warning === this.#warning || this.#stopped) return;
    this.#warning = warning;
    if (warning !== '') this.#logger.warn({ warning }, 'endangered');
  }

  async #findFault(): Promise<string> {
    let found: Awaited<ReturnType<typeof readInstallation>>;
    try {
      found = await readInstallation(this.#redis);
    } catch (error) {
      return error instanceof Error && error.name === 'OperatorError'
        ? error.message
        : 'Redis does not answer: check that it runs and can be reached.';
    }
    if (found === null) {
      return this.#adopted === ''
        ? 'Redis holds no Tollkeeper data yet: create a tenant with `tollkeeper tenant create`.'
        : 'Redis came back empty: restore its data; requests are answered 503 until then.';
    }
    if (this.#adopted === '') {
      this.#adopted = found.installation;
      this.#adopt(found.installation);
    }
    if (found.installation !== this.#adopted) {
      return `Redis holds another installation (${found.installation}, expected ${this.#adopted}): restart to accept it.`;
    }
    return '';
  }
}
