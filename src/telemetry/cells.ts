/**
 * Numbers that are counted on the request path and read when metrics are scraped. Observing costs a lookup and an
 * addition; everything else (labels as objects, cumulated buckets) is left to the scrape.
 */

/** One sample for prom-client. */
export interface Sample {
  readonly value: number;
  readonly labels: Readonly<Record<string, string | number>>;
  readonly metricName?: string;
}

/** What a metric is read from. `name` is the metric's own; histograms derive the names of their samples from it. */
export interface Cells {
  values(name: string): Sample[];
}

/** A counter with one label from a closed set; every value is exported from the start, at 0. */
export class LabelCells<Value extends string> implements Cells {
  readonly #label: string;
  readonly #counts: Map<Value, number>;

  constructor(label: string, values: readonly Value[]) {
    this.#label = label;
    this.#counts = new Map(values.map((value) => [value, 0]));
  }

  add(value: Value, count: number): void {
    const before = this.#counts.get(value);
    if (before !== undefined) this.#counts.set(value, before + count);
  }

  values(): Sample[] {
    return [...this.#counts].map(([value, count]) => ({ value: count, labels: { [this.#label]: value } }));
  }
}

/** A counter with three labels; combinations that never happened (most of them) are not exported. */
export class RequestCells implements Cells {
  readonly #statusClasses: readonly string[];
  readonly #byOutcome: Map<string, Map<string, Float64Array>>;

  /** The sets of `outcome` and `method` hold `other`; a status class is found by the first digit of the status. */
  constructor(outcomes: readonly string[], methods: readonly string[], statusClasses: readonly string[]) {
    this.#statusClasses = statusClasses;
    this.#byOutcome = new Map(
      outcomes.map((outcome) => [
        outcome,
        new Map(methods.map((method) => [method, new Float64Array(statusClasses.length)])),
      ]),
    );
  }

  count(outcome: string, method: string, status: number): void {
    const byMethod = this.#byOutcome.get(outcome) ?? this.#byOutcome.get('other');
    const byClass = byMethod?.get(method) ?? byMethod?.get('other');
    if (byClass === undefined) return;
    const digit = (status / 100) | 0;
    const place = digit > 0 && digit < byClass.length ? digit : 0;
    byClass[place] = (byClass[place] as number) + 1;
  }

  values(): Sample[] {
    const samples: Sample[] = [];
    for (const [outcome, byMethod] of this.#byOutcome) {
      for (const [method, byClass] of byMethod) {
        for (const [place, value] of byClass.entries()) {
          if (value === 0) continue;
          samples.push({ value, labels: { outcome, method, status_class: this.#statusClasses[place] as string } });
        }
      }
    }
    return samples;
  }
}

/** A histogram without labels. */
export class HistogramCells implements Cells {
  readonly #bounds: readonly number[];
  /** Not cumulated; the last place is for what is above every bound. */
  readonly #counts: Float64Array;
  #sum = 0;

  /** `bounds` ascending, inclusive, without +Inf. */
  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.#counts = new Float64Array(bounds.length + 1);
  }

  /** A value that is no number is not counted. */
  observe(value: number): void {
    if (!(value < Number.POSITIVE_INFINITY)) return;
    const bounds = this.#bounds;
    let place = 0;
    while (place < bounds.length && value > (bounds[place] as number)) place += 1;
    this.#counts[place] = (this.#counts[place] as number) + 1;
    this.#sum += value;
  }

  values(name: string): Sample[] {
    let cumulated = 0;
    const buckets = [...this.#counts].map((count, place): Sample => {
      cumulated += count;
      return { value: cumulated, labels: { le: this.#bounds[place] ?? '+Inf' }, metricName: `${name}_bucket` };
    });
    return [
      ...buckets,
      { value: this.#sum, labels: {}, metricName: `${name}_sum` },
      { value: cumulated, labels: {}, metricName: `${name}_count` },
    ];
  }
}

/** A gauge that is read when it is scraped. */
export class SampledCell implements Cells {
  readonly #read: () => number;
  readonly #labels: Readonly<Record<string, string>>;

  constructor(read: () => number, labels: Readonly<Record<string, string>> = {}) {
    this.#read = read;
    this.#labels = labels;
  }

  values(): Sample[] {
    return [{ value: this.#read(), labels: this.#labels }];
  }
}
