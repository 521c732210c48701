/** The primary's side of one worker process: starts it, asks it, hears it, ends it. */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { OperatorError } from '../core/failure.js';
import type { Policy } from '../policy/routes.js';
import type { MetricsSnapshot } from '../telemetry/aggregate.js';
import type { DataProcessConfig, ServingAddresses } from './data-process.js';
import { withDeadline } from './lifecycle.js';
import type { ReadinessReport } from './readiness.js';
import { type FromWorker, policyData, type ToWorker } from './worker-protocol.js';

const entry = fileURLToPath(new URL('./worker-main.js', import.meta.url));

/** What became of the start of a worker. */
export type WorkerStart = { readonly addresses: ServingAddresses } | { readonly failure: OperatorError };

type Answer = Extract<FromWorker, { kind: 'answer' }>;

/** An exit is known before the last words are read; they come within this, ms. */
const lastWordsWithinMs = 500;

export class WorkerProcess {
  readonly number: number;
  /** 0 when no process could be started. */
  readonly pid: number;
  /** Resolves when it takes requests, or when it is certain that it never will. */
  readonly started: Promise<WorkerStart>;
  /** Resolves when the process is gone: `exit code 1`, `SIGKILL`. */
  readonly ended: Promise<string>;
  readonly #child: ChildProcess;
  readonly #answers = new Map<number, (answer: Answer | undefined) => void>();
  #asked = 0;
  #resolveStart: (start: WorkerStart) => void = () => {};
  #listeningSinceMs = Number.POSITIVE_INFINITY;
  #gone = false;
  #leaving = false;
  #heardAtMs = performance.now();
  #silentChecks = 0;
  #report: ReadinessReport | undefined;
  #finalSnapshot: MetricsSnapshot | undefined;

  /** `output`: its standard output and standard error: those of this process, or a file that is open. */
  constructor(number: number, config: DataProcessConfig, policy: Policy, output: 'inherit' | number) {
    this.number = number;
    this.#child = fork(entry, {
      env: withoutOwnVariables(process.env),
      stdio: ['ignore', output, output, 'ipc'],
      serialization: 'advanced',
    });
    this.pid = this.#child.pid ?? 0;
    this.started = new Promise((resolve) => {
      this.#resolveStart = resolve;
    });
    this.ended = this.#end();
    this.#child.on('message', (message: FromWorker) => this.#hear(message));
    this.#send({ kind: 'start', number, config, policy: policyData(policy) });
  }

  /** It takes requests, also while it drains. */
  get listening(): boolean {
    return !this.#gone && this.#listeningSinceMs < Number.POSITIVE_INFINITY;
  }

  /** How long it has taken requests, ms; 0 when it never did. */
  get servedMs(): number {
    return Math.max(0, performance.now() - this.#listeningSinceMs);
  }

  /** Ms since it was heard. */
  get silentMs(): number {
    return performance.now() - this.#heardAtMs;
  }

  /** Its last report. */
  get readiness(): ReadinessReport | undefined {
    return this.#report;
  }

  /** What it had counted when it drained; undefined of one that was killed. */
  get finalSnapshot(): MetricsSnapshot | undefined {
    return this.#finalSnapshot;
  }

  /**
   * Calls of this since it was heard, this one included. Counted and not timed: after the whole machine slept, a worker
   * that woke up with us is not one that hangs.
   */
  countSilence(): number {
    this.#silentChecks += 1;
    return this.#silentChecks;
  }

  /** Everything it has counted; undefined when it does not answer within `deadlineMs`. */
  async snapshot(deadlineMs: number): Promise<MetricsSnapshot | undefined> {
    return (await this.#ask((ask) => ({ kind: 'snapshot', ask }), deadlineMs))?.snapshot;
  }

  /** Answers whether it has taken the policy within `deadlineMs`; it takes it later all the same, unless it ends. */
  async usePolicy(policy: Policy, deadlineMs: number): Promise<boolean> {
    const data = policyData(policy);
    return (await this.#ask((ask) => ({ kind: 'policy', ask, policy: data }), deadlineMs)) !== undefined;
  }

  /**
   * Lets it drain and end, and kills it after `deadlineMs`; answers whether it ended by itself. `lingering`: other
   * processes serve the port, so it waits for idle connections too.
   */
  async leave(lingering: boolean, deadlineMs: number): Promise<boolean> {
    this.#leaving = true;
    this.#send({ kind: 'leave', lingering });
    if ((await withDeadline(this.ended, deadlineMs)) !== undefined) return true;
    this.kill();
    await this.ended;
    return false;
  }

  /** It was told to leave. */
  get leaving(): boolean {
    return this.#leaving;
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }

  #hear(message: FromWorker): void {
    this.#heardAtMs = performance.now();
    this.#silentChecks = 0;
    switch (message.kind) {
      case 'listening':
        this.#listeningSinceMs = performance.now();
        return this.#resolveStart({ addresses: message.addresses });
      case 'failed':
        return this.#resolveStart({ failure: new OperatorError(message.message, message.exitCode) });
      case 'report':
        this.#report = message.report;
        return;
      case 'answer':
        this.#answers.get(message.ask)?.(message);
        return;
      case 'left':
        this.#finalSnapshot = message.snapshot;
    }
  }

  async #end(): Promise<string> {
    const child = this.#child;
    const disconnected = new Promise<void>((resolve) => {
      child.once('disconnect', resolve);
    });
    const how = await new Promise<string>((resolve) => {
      child.on('error', (error: NodeJS.ErrnoException) => {
        // Also the word of a signal or message that did not reach it: only a process that never was is an end.
        if (child.pid === undefined) resolve(`no process could be started: ${error.code ?? error.message}`);
      });
      child.once('exit', (code, signal) => resolve(signal ?? `exit code ${code}`));
    });
    if (child.pid !== undefined) await withDeadline(disconnected, lastWordsWithinMs);
    this.#gone = true;
    this.#resolveStart({ failure: new OperatorError(`A worker ended before it took requests (${how}).`) });
    for (const resolve of this.#answers.values()) resolve(undefined);
    return how;
  }

  async #ask(message: (ask: number) => ToWorker, deadlineMs: number): Promise<Answer | undefined> {
    if (this.#gone) return undefined;
    this.#asked += 1;
    const ask = this.#asked;
    const answered = new Promise<Answer | undefined>((resolve) => {
      this.#answers.set(ask, resolve);
    });
    this.#send(message(ask));
    const answer = await withDeadline(answered, deadlineMs);
    this.#answers.delete(ask);
    return answer;
  }

  #send(message: ToWorker): void {
    // What cannot be sent goes to a process that is ending: its exit tells.
    if (this.#child.connected) this.#child.send(message, () => {});
  }
}

/** A worker is told its configuration; secrets need not stand in its environment too. */
function withoutOwnVariables(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith('TOLLKEEPER_')));
}
