/**
 * Tickets for one node of a Cluster. A script's keys lie in one slot, so a batch is one call of lua/admit.lua for each
 * virtual shard in it; all calls of a turn leave in one write.
 *
 * - A shard that fails alone (its slot moves, its keys cannot be written) fails alone: the others have their verdicts.
 *   When none was answered it is the node that fails, and its breaker that counts.
 * - A shard whose slot is elsewhere takes a detour: it leaves the batch, is asked for once more where the node says
 *   (MOVED, ASK), or once more here after a moment (TRYAGAIN), and is given up after that or at its deadline. Nothing
 *   has run before a detour, so nothing is charged twice.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { ClusterNodes, NodeName } from '../redis/cluster-nodes.js';
import { allShards, shardNumberOf } from '../redis/keys.js';
import { type Redirection, redirectionIn } from '../redis/redirection.js';
import type { RunScript } from '../redis/scripts.js';
import { storeErrorKind } from '../telemetry/store-error-kind.js';
import { AdmitBatch, bindAdmit, type Reply } from './admit.js';
import {
  type AdmissionTicket,
  blankVerdict,
  type Carrier,
  stateWithoutRedis,
  type TicketBatch,
  type Verdict,
  verdictCodes,
} from './ticket.js';
import { type AdmissionObserver, conclude } from './gate.js';
import type { DenyCache } from './deny-cache.js';
import type { Leases } from './leases.js';

const tryAgainAfterMs = 20;
/** Errors by which a node says that it does not serve what the map says it does. */
const outOfService = /^(?:ERR -)?(CLUSTERDOWN|READONLY|MASTERDOWN|LOADING|NOREPLICAS)\b/;

/** What all batches of a process share. */
export class ClusterLines {
  readonly nodes: ClusterNodes;
  readonly observer: AdmissionObserver;
  readonly denials: DenyCache;
  readonly leases: Leases;
  readonly #scripts = new WeakMap<Redis, RunScript>();
  /** A shard that lies on a node, -1 for none. */
  readonly shardOn: (node: NodeName) => number;
  /** Who is told that a node is connected: the last that asked. */
  readonly #connected = new Map<NodeName, () => void>();

  constructor(
    nodes: ClusterNodes,
    observer: AdmissionObserver,
    denials: DenyCache,
    leases: Leases,
    shardOn: (node: NodeName) => number,
  ) {
    this.nodes = nodes;
    this.observer = observer;
    this.denials = denials;
    this.leases = leases;
    this.shardOn = shardOn;
    nodes.onConnected((node) => this.#connected.get(node)?.());
  }

  /** The script on a connection. */
  script(redis: Redis): RunScript {
    let run = this.#scripts.get(redis);
    if (run === undefined) {
      run = bindAdmit(redis);
      this.#scripts.set(redis, run);
    }
    return run;
  }

  /** What takes tickets to `node`; '' is no node, and fails. */
  carrier(node: NodeName): Carrier {
    return {
      newBatch: () => new ClusterBatch(this, node),
      onConnected: (listener) => {
        this.#connected.set(node, listener);
      },
      failed: () => this.nodes.troubled(),
    };
  }
}

interface Part {
  readonly shard: number;
  readonly batch: AdmitBatch;
  reply: Reply | undefined;
  error: unknown;
}

class ClusterBatch implements TicketBatch {
  readonly tickets: AdmissionTicket[] = [];
  readonly #lines: ClusterLines;
  readonly #node: NodeName;
  /** By shard; used again. */
  readonly #batches: (AdmitBatch | undefined)[] = [];
  #parts: Part[] = [];
  /** Raised by every `clear`: what comes later was of other tickets. */
  #turn = 0;

  constructor(lines: ClusterLines, node: NodeName) {
    this.#lines = lines;
    this.#node = node;
  }

  clear(): void {
    this.#turn += 1;
    this.tickets.length = 0;
    for (const { batch } of this.#parts) batch.clear();
    this.#parts = [];
  }

  send(installation: string, deadlineMs: number): Promise<unknown> {
    const { nodes } = this.#lines;
    const redis = this.#node === '' ? undefined : nodes.readyConnection(this.#node);
    if (redis === undefined) return Promise.reject(new Error('Connection is closed.'));
    this.#spread();
    // Without tickets it is a probe: does the node run the script?
    if (this.#parts.length === 0) this.#addPart(Math.max(0, this.#lines.shardOn(this.#node)));
    const run = this.#lines.script(redis);
    redis.stream.cork();
    const replies = this.#parts.map(({ batch }) => batch.send(run, installation));
    redis.stream.uncork();
    const turn = this.#turn;
    return new Promise((resolve, reject) => {
      const parts = this.#parts;
      let open = parts.length;
      const ended = (): void => {
        open -= 1;
        if (open > 0 || turn !== this.#turn) return;
        const failure = this.#parts.find((part) => part.reply === undefined);
        if (failure !== undefined && this.#parts.every((part) => part.reply === undefined)) {
          // What went on a detour was answered: the node is there.
          if (this.#parts.length === parts.length) return reject(failure.error);
        }
        resolve(this);
      };
      for (const [index, part] of parts.entries()) {
        (replies[index] as Promise<unknown>)
          .then(
            (reply) => {
              if (part.batch.isReply(reply)) part.reply = reply;
              else part.error = new Error('lua/admit.lua answered in another form');
            },
            (error: unknown) => {
              if (turn === this.#turn) this.#failed(part, error, installation, deadlineMs);
            },
          )
          .finally(ended);
      }
    });
  }

  isReply(reply: unknown): boolean {
    return reply === this;
  }

  settle(_reply: unknown, verdict: Verdict, settled: (ticket: AdmissionTicket, verdict: Verdict) => void): void {
    for (const { batch, reply, error } of this.#parts) {
      if (reply !== undefined) {
        batch.settle(reply, verdict, settled);
        continue;
      }
      this.#lines.observer.storeFailed(storeErrorKind(error));
      for (const ticket of batch.tickets) {
        stateWithoutRedis(verdict, verdictCodes.storeUnavailable);
        settled(ticket, verdict);
      }
    }
  }

  /** Tickets by shard. */
  #spread(): void {
    const byShard = new Map<number, Part>();
    for (const ticket of this.tickets) {
      const shard = shardNumberOf(ticket.tokenKey);
      let part = byShard.get(shard);
      if (part === undefined) {
        part = this.#addPart(shard);
        byShard.set(shard, part);
      }
      part.batch.tickets.push(ticket);
    }
  }

  #addPart(shard: number): Part {
    const batch = (this.#batches[shard] ??= new AdmitBatch(allShards[shard]));
    const part = { shard, batch, reply: undefined, error: undefined };
    this.#parts.push(part);
    return part;
  }

  #failed(part: Part, error: unknown, installation: string, deadlineMs: number): void {
    part.error = error;
    if (error instanceof Error && outOfService.test(error.message)) this.#lines.nodes.troubled();
    const redirection = redirectionIn(error, this.#node);
    if (redirection === undefined) return;
    // From here on its tickets are the detour's.
    this.#parts = this.#parts.filter((other) => other !== part);
    this.#batches[part.shard] = undefined;
    const leaving = new Set(part.batch.tickets);
    const staying = this.tickets.filter((ticket) => !leaving.has(ticket));
    this.tickets.splice(0, this.tickets.length, ...staying);
    void new Detour(this.#lines, part.batch, deadlineMs).go(redirection, this.#node, installation);
  }
}

/** The one further try of the tickets of a shard. */
class Detour {
  readonly #lines: ClusterLines;
  readonly #batch: AdmitBatch;
  readonly #deadlineMs: number;
  readonly #timer: NodeJS.Timeout;
  #isOver = false;

  constructor(lines: ClusterLines, batch: AdmitBatch, deadlineMs: number) {
    this.#lines = lines;
    this.#batch = batch;
    this.#deadlineMs = deadlineMs;
    // As for a batch: what lies in the socket is read before it is given up.
    this.#timer = setTimeout(() => setImmediate(() => this.#giveUp(new Error('Command timed out'))), this.#leftMs());
  }

  /** Never rejects. `from`: the node that sent it on. */
  async go(redirection: Redirection, from: NodeName, installation: string): Promise<void> {
    const { nodes } = this.#lines;
    try {
      if (redirection.kind === 'moved') nodes.moved(redirection.slot, redirection.node);
      if (redirection.kind === 'try-again') await delay(tryAgainAfterMs);
      const node = redirection.kind === 'try-again' ? from : redirection.node;
      const redis = await nodes.awaitConnection(node, this.#leftMs());
      if (this.#isOver) return;
      if (redis === undefined) throw new Error('Connection is closed.');
      const sentAtMs = performance.now();
      if (redirection.kind === 'ask') redis.asking().catch(() => {});
      const reply = await this.#batch.send(this.#lines.script(redis), installation);
      if (!this.#batch.isReply(reply)) throw new Error('lua/admit.lua answered in another form');
      if (this.#over()) return;
      const { observer } = this.#lines;
      const { length } = this.#batch.tickets;
      if (length > 0) observer.batchAnswered(length, performance.now() - sentAtMs);
      this.#batch.settle(reply, blankVerdict(), (ticket, verdict) =>
        conclude(this.#lines, observer, sentAtMs, ticket, verdict),
      );
    } catch (error) {
      this.#giveUp(error);
    }
  }

  #giveUp(error: unknown): void {
    if (this.#over()) return;
    const { observer, nodes } = this.#lines;
    observer.storeFailed(storeErrorKind(error));
    nodes.troubled();
    const verdict = blankVerdict();
    for (const ticket of this.#batch.tickets) {
      stateWithoutRedis(verdict, verdictCodes.storeUnavailable);
      conclude(this.#lines, observer, 0, ticket, verdict);
    }
  }

  /** Ends it; answers whether it had ended before. */
  #over(): boolean {
    const wasOver = this.#isOver;
    this.#isOver = true;
    clearTimeout(this.#timer);
    return wasOver;
  }

  #leftMs(): number {
    return Math.max(0, this.#deadlineMs - performance.now());
  }
}
