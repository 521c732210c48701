/** What goes wrong during a soak, one after another. */
import type { FaultRig } from './fault-rig.js';
import type { Link } from './soak-bystander-process.js';

export interface SoakWorld {
  readonly rig: FaultRig;
  readonly redisLink: Link;
  readonly upstreamLink: Link;
}

export interface Fault {
  readonly name: string;
  begin(world: SoakWorld): unknown;
  /** Absent: it is over at once. */
  end?(world: SoakWorld): unknown;
}

export const faults: readonly Fault[] = [
  {
    name: 'Redis frozen',
    begin: ({ rig }) => rig.installation.redis.freeze(),
    end: ({ rig }) => rig.installation.redis.thaw(),
  },
  {
    name: 'Redis killed, back with its data',
    begin: ({ rig }) => rig.installation.redis.kill(),
    end: ({ rig }) => rig.installation.redis.restart({ keepData: true }),
  },
  {
    name: 'Redis 300 ms slow',
    begin: ({ redisLink }) => redisLink.fail({ kind: 'latency', ms: 300 }),
    end: ({ redisLink }) => redisLink.fail({ kind: 'none' }),
  },
  {
    name: 'connections to Redis reset',
    begin: ({ redisLink }) => redisLink.fail({ kind: 'reset' }),
    end: ({ redisLink }) => redisLink.fail({ kind: 'none' }),
  },
  {
    name: 'connections to Redis cut within an answer',
    begin: ({ redisLink }) => redisLink.fail({ kind: 'cut-after', bytes: 3 }),
    end: ({ redisLink }) => redisLink.fail({ kind: 'none' }),
  },
  {
    name: 'connections to the upstream reset',
    begin: ({ upstreamLink }) => upstreamLink.fail({ kind: 'reset' }),
    end: ({ upstreamLink }) => upstreamLink.fail({ kind: 'none' }),
  },
  {
    name: 'upstream stalled',
    begin: ({ upstreamLink }) => upstreamLink.fail({ kind: 'stalled' }),
    end: ({ upstreamLink }) => upstreamLink.fail({ kind: 'none' }),
  },
  {
    name: 'scripts flushed',
    async begin({ rig }) {
      const client = rig.installation.redis.client();
      await client.script('FLUSH');
      client.disconnect();
    },
  },
  { name: 'policy reloaded', begin: ({ rig }) => rig.sidecars[0]?.signal('SIGHUP') },
];
