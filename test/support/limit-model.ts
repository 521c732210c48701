/**
 * Reference models of the limit algorithms: the rules of docs/rate-limiting.md written down as plainly as possible,
 * with lists and JavaScript's own calendar. They share nothing with lua/lib but the rules.
 */
import { isQuota, type Limit, limitKey, type Quota, type RateLimit } from '../../src/admission/limit.js';

/** One limit of one record. Times in microseconds unless named otherwise. */
interface LimitModel {
  readonly isQuota: boolean;
  capacity(): number;
  /** Takes the time and what the limit is now; forgets what is over. True when what is stored has to change. */
  observe(limit: Limit, nowUs: number): boolean;
  free(): number;
  /** Milliseconds until `units` are free, when they are not. */
  wait(units: number): number;
  charge(units: number): void;
  clone(): LimitModel;
}

class SlidingModel implements LimitModel {
  readonly isQuota = false;
  #limit!: RateLimit;
  #nowMs = 0;
  #pairs: { lastMs: number; count: number }[] = [];

  capacity(): number {
    return this.#limit.limit;
  }

  observe(limit: Limit, nowUs: number): boolean {
    this.#limit = limit as RateLimit;
    this.#nowMs = Math.floor(nowUs / 1000);
    const ahead = this.#pairs.filter((pair) => pair.lastMs > this.#nowMs);
    this.#pairs = this.#pairs.filter((pair) => pair.lastMs <= this.#nowMs);
    if (ahead.length > 0) this.#pairs.push({ lastMs: this.#nowMs, count: sum(ahead.map((pair) => pair.count)) });
    this.#pairs = this.#pairs.filter((pair) => this.#nowMs < pair.lastMs + this.#windowMs());
    return ahead.length > 0;
  }

  free(): number {
    return this.#limit.limit - sum(this.#pairs.map((pair) => pair.count));
  }

  wait(units: number): number {
    for (let gone = 1; gone <= this.#pairs.length; gone += 1) {
      const left = sum(this.#pairs.slice(gone).map((pair) => pair.count));
      const last = this.#pairs[gone - 1] as { lastMs: number };
      if (left + units <= this.#limit.limit) return last.lastMs + this.#windowMs() - this.#nowMs;
    }
    return this.#windowMs();
  }

  charge(units: number): void {
    const newest = this.#pairs.at(-1);
    const sharesCells = this.#limit.limit > 16;
    if (
      newest &&
      (newest.lastMs === this.#nowMs || (sharesCells && this.#cell(newest.lastMs) === this.#cell(this.#nowMs)))
    ) {
      newest.lastMs = this.#nowMs;
      newest.count += units;
    } else {
      this.#pairs.push({ lastMs: this.#nowMs, count: units });
    }
  }

  clone(): LimitModel {
    const copy = new SlidingModel();
    copy.#pairs = this.#pairs.map((pair) => ({ ...pair }));
    return copy;
  }

  #windowMs(): number {
    return this.#limit.window * 1000;
  }

  #cell(ms: number): bigint {
    return (BigInt(ms) * 16n) / BigInt(this.#windowMs());
  }
}

/** Fixed windows, days, months. */
class PeriodModel implements LimitModel {
  readonly isQuota: boolean;
  #limit!: Limit;
  #nowMs = 0;
  #startMs = Number.NEGATIVE_INFINITY;
  #endMs = 0;
  #used = 0;

  constructor(quota: boolean) {
    this.isQuota = quota;
  }

  capacity(): number {
    return this.#limit.limit;
  }

  observe(limit: Limit, nowUs: number): boolean {
    this.#limit = limit;
    this.#nowMs = Math.floor(nowUs / 1000);
    const [startMs, endMs] = periodOf(limit, this.#nowMs);
    // A period ahead of the clock goes on as the present one.
    const isAhead = this.#startMs > startMs;
    if (startMs > this.#startMs) this.#used = 0;
    this.#startMs = startMs;
    this.#endMs = endMs;
    return isAhead;
  }

  free(): number {
    return this.#limit.limit - this.#used;
  }

  wait(units: number): number {
    if (!isQuota(this.#limit) && units > this.#limit.limit) return this.#limit.window * 1000;
    return this.#endMs - this.#nowMs;
  }

  charge(units: number): void {
    this.#used += units;
  }

  clone(): LimitModel {
    const copy = new PeriodModel(this.isQuota);
    copy.#startMs = this.#startMs;
    copy.#used = this.#used;
    return copy;
  }
}

function periodOf(limit: Limit, nowMs: number): [startMs: number, endMs: number] {
  if (!isQuota(limit)) {
    const startMs = nowMs - (nowMs % (limit.window * 1000));
    return [startMs, startMs + limit.window * 1000];
  }
  const now = new Date(nowMs);
  const [year, month, day] = [now.getUTCFullYear(), now.getUTCMonth(), now.getUTCDate()];
  return limit.period === 'day'
    ? [Date.UTC(year, month, day), Date.UTC(year, month, day + 1)]
    : [Date.UTC(year, month), Date.UTC(year, month + 1)];
}

/** A bucket of `burst` units that earns one every interval; what is used is kept as the time until it is earned again. */
class BucketModel implements LimitModel {
  readonly isQuota = false;
  #limit!: RateLimit;
  #nowUs = 0;
  #intervalUs = 0;
  #earnedAtUs = 0;

  capacity(): number {
    return this.#limit.burst ?? this.#limit.limit;
  }

  observe(limit: Limit, nowUs: number): boolean {
    this.#limit = limit as RateLimit;
    this.#nowUs = nowUs;
    const intervalUs = Math.ceil((this.#limit.window * 1e6) / this.#limit.limit);
    let owedUs = Math.max(0, this.#earnedAtUs - nowUs);
    const isRescaled = owedUs > 0 && intervalUs !== this.#intervalUs;
    if (isRescaled) {
      owedUs = Math.ceil((owedUs / this.#intervalUs) * intervalUs);
    }
    const owedMaxUs = this.capacity() * intervalUs;
    this.#intervalUs = intervalUs;
    this.#earnedAtUs = nowUs + Math.min(owedUs, owedMaxUs);
    return isRescaled || owedUs > owedMaxUs;
  }

  free(): number {
    return Math.floor(this.capacity() - (this.#earnedAtUs - this.#nowUs) / this.#intervalUs);
  }

  wait(units: number): number {
    if (units > this.capacity()) return Math.ceil((this.capacity() * this.#intervalUs) / 1000);
    const owedThenUs = (this.capacity() - units) * this.#intervalUs;
    return Math.ceil((this.#earnedAtUs - owedThenUs - this.#nowUs) / 1000);
  }

  charge(units: number): void {
    this.#earnedAtUs += units * this.#intervalUs;
  }

  clone(): LimitModel {
    const copy = new BucketModel();
    copy.#intervalUs = this.#intervalUs;
    copy.#earnedAtUs = this.#earnedAtUs;
    return copy;
  }
}

export interface ModelVerdict {
  readonly verdict: 'admitted' | 'confirmed' | 'limited' | 'quotaExceeded';
  readonly limitIndex: number;
  readonly remaining: number;
  readonly resetMs: number;
  readonly retryMs: number;
}

/** A record with several limits: all are checked, then all are charged. */
export class RecordModel {
  /** What is stored: changed by a charge and by an adjustment, and then only what the limits of the moment name. */
  #stored = new Map<string, LimitModel>();
  #limits: readonly Limit[];

  constructor(limits: readonly Limit[]) {
    this.#limits = limits;
  }

  /** New limits; what was used under an identity that stays is kept. */
  change(limits: readonly Limit[]): void {
    this.#limits = limits;
  }

  decide(cost: number, nowUs: number): ModelVerdict {
    const opened = new Map(this.#limits.map((limit) => [limitKey(limit), this.#open(limit)]));
    const models = [...opened.values()];
    const isAdjusted = models.map((model, index) => model.observe(this.#limits[index] as Limit, nowUs)).includes(true);
    if (isAdjusted) this.#store(opened);
    const fits = cost === 0 || models.every((model) => model.free() >= cost);
    if (!fits) {
      const waits = models.map((model) => (model.free() >= cost ? 0 : model.wait(cost)));
      const longest = waits.indexOf(Math.max(...waits));
      const model = models[longest] as LimitModel;
      return {
        verdict: model.isQuota ? 'quotaExceeded' : 'limited',
        ...stateOf(model, longest),
        retryMs: waits[longest] as number,
      };
    }
    if (cost > 0) {
      for (const model of models) model.charge(cost);
      this.#store(opened);
    }
    const shares = models.map((model) => model.free() / model.capacity());
    const nearest = shares.indexOf(Math.min(...shares));
    return {
      verdict: cost > 0 ? 'admitted' : 'confirmed',
      ...stateOf(models[nearest] as LimitModel, nearest),
      retryMs: 0,
    };
  }

  /** Of a limit that is full nothing is kept. */
  #store(opened: ReadonlyMap<string, LimitModel>): void {
    this.#stored = new Map([...opened].filter(([, model]) => model.free() < model.capacity()));
  }

  #open(limit: Limit): LimitModel {
    return this.#stored.get(limitKey(limit))?.clone() ?? modelOf(limit);
  }
}

function stateOf(model: LimitModel, limitIndex: number): Pick<ModelVerdict, 'limitIndex' | 'remaining' | 'resetMs'> {
  const remaining = Math.max(0, model.free());
  return { limitIndex, remaining, resetMs: model.free() >= model.capacity() ? 0 : model.wait(remaining + 1) };
}

function modelOf(limit: RateLimit | Quota): LimitModel {
  if (isQuota(limit)) return new PeriodModel(true);
  if (limit.algorithm === 'sliding-window') return new SlidingModel();
  return limit.algorithm === 'fixed-window' ? new PeriodModel(false) : new BucketModel();
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
