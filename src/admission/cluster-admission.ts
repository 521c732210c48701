/**
 * Admission on a Redis Cluster: one {@link Admission} for each node, with its own queue, batches in flight and breaker,
 * so that a node that is away or slow is no other's concern. A ticket goes to the node that holds its token's shard,
 * by the map of slots as it is known; where it is out of date the node itself says so (cluster-batch.ts).
 */
import type { Cluster } from 'ioredis';
import type { BreakerState } from '../redis/breaker.js';
import { ClusterNodes, type NodeName, slotOf } from '../redis/cluster-nodes.js';
import { allShards, keys, shardNumberOf } from '../redis/keys.js';
import type { AdmissionTicket } from './ticket.js';
import { Admission } from './batcher.js';
import type { AdmissionGate, AdmissionObserver } from './gate.js';
import { ClusterLines } from './cluster-batch.js';
import { DenyCache } from './deny-cache.js';
import { Leases } from './leases.js';

export interface ClusterAdmissionOptions {
  /** Of purpose `admission`; its map of slots and its options are used, connections are our own. */
  readonly cluster: Cluster;
  readonly observer: AdmissionObserver;
  /** Tickets that may wait at once for each node; the next is `overloaded`. */
  readonly queueMax: number;
  /** As of `AdmissionOptions`. */
  readonly commandTimeoutMs: number;
}

const shardSlots = allShards.map((shard) => slotOf(keys.meta(shard)));

export class ClusterAdmission implements AdmissionGate {
  readonly denials = new DenyCache(10_000);
  readonly leases = new Leases((ticket) => this.submit(ticket));
  readonly #options: ClusterAdmissionOptions;
  readonly #nodes: ClusterNodes;
  readonly #lines: ClusterLines;
  /** By the shard whose tickets it takes. */
  #byShard: Admission[] = [];
  #byNode = new Map<NodeName, Admission>();
  #installation = '';
  #closed = false;

  constructor(options: ClusterAdmissionOptions) {
    this.#options = options;
    this.#nodes = new ClusterNodes(options.cluster);
    this.#lines = new ClusterLines(this.#nodes, options.observer, this.denials, this.leases, (node) =>
      shardSlots.findIndex((slot) => this.#nodes.ownerOf(slot) === node),
    );
    this.#nodes.onChange(() => this.#assign());
    this.#assign();
  }

  get installation(): string {
    return this.#installation;
  }

  set installation(installation: string) {
    this.#installation = installation;
    for (const admission of this.#byNode.values()) admission.installation = installation;
  }

  /** `closed` when every node's is. */
  get breakerState(): BreakerState {
    const states = [...this.#byNode.values()].map((admission) => admission.breakerState);
    return states.find((state) => state !== 'closed') ?? 'closed';
  }

  get waiting(): number {
    return [...this.#byNode.values()].reduce((sum, admission) => sum + admission.waiting, 0);
  }

  submit(ticket: AdmissionTicket): void {
    (this.#byShard[shardNumberOf(ticket.tokenKey)] as Admission).submit(ticket);
  }

  /** Answers when every node is connected, or after `timeoutMs`: whoever waits goes on either way. */
  settled(timeoutMs: number): Promise<void> {
    return this.#nodes.settled(timeoutMs);
  }

  close(): void {
    this.#closed = true;
    this.leases.close();
    for (const admission of this.#byNode.values()) admission.close();
    this.#nodes.close();
  }

  /** Gives each shard to its node. A node that has none any more hands over what waits, and is forgotten. */
  #assign(): void {
    const before = this.#byNode;
    this.#byNode = new Map();
    this.#byShard = shardSlots.map((slot) => {
      const node = this.#nodes.ownerOf(slot) ?? '';
      const known = this.#byNode.get(node) ?? before.get(node) ?? this.#open(node);
      this.#byNode.set(node, known);
      return known;
    });
    for (const [node, admission] of before) {
      if (this.#byNode.has(node)) continue;
      for (const ticket of admission.release()) this.submit(ticket);
    }
  }

  #open(node: NodeName): Admission {
    const { observer, queueMax, commandTimeoutMs } = this.#options;
    const admission = new Admission({
      carrier: this.#lines.carrier(node),
      observer,
      queueMax,
      commandTimeoutMs,
      denials: this.denials,
      leases: this.leases,
    });
    admission.installation = this.#installation;
    if (this.#closed) admission.close();
    return admission;
  }
}
