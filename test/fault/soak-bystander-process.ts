/** The parent's side of soak-bystander.ts. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { NetworkFault } from '../support/fault-proxy.js';
import type { FromBystander, ToBystander, Witness } from './soak-bystander.js';

/** A network that can fail, carried by another process. */
export interface Link {
  readonly port: number;
  fail(fault: NetworkFault): void;
}

export interface Bystander {
  /** A port to connect to instead of a server's. */
  carry(port: number): Promise<Link>;
  /** Watches the machine and this Redis from now on. */
  watch(redisPort: number): void;
  /** Its event loop is measured from now on, or no more. */
  measureLoop(isOn: boolean): void;
  /** What it saw since it was asked last. */
  witness(): Promise<Witness>;
  stop(): Promise<void>;
}

export function startBystander(): Bystander {
  const child = fork(fileURLToPath(new URL('./soak-bystander.ts', import.meta.url)), { execArgv: ['--import', 'tsx'] });
  let carried = 0;
  const send = (message: ToBystander): void => {
    child.send(message);
  };
  /** The answer to one question at a time. */
  const ask = async <K extends FromBystander['kind']>(
    message: ToBystander,
    kind: K,
  ): Promise<Extract<FromBystander, { kind: K }>> => {
    send(message);
    const [answer] = (await once(child, 'message')) as [FromBystander];
    if (answer.kind !== kind) throw new Error(`the bystander answered ${answer.kind} instead of ${kind}`);
    return answer as Extract<FromBystander, { kind: K }>;
  };
  return {
    async carry(port) {
      const link = carried;
      carried += 1;
      const { port: own } = await ask({ kind: 'carry', port }, 'carried');
      return { port: own, fail: (fault) => send({ kind: 'fail', link, fault }) };
    },
    watch: (redisPort) => send({ kind: 'watch', redisPort }),
    measureLoop: (isOn) => send({ kind: 'measure', isOn }),
    witness: async () => (await ask({ kind: 'report' }, 'witness')).witness,
    async stop() {
      if (child.exitCode !== null) return;
      const ended = once(child, 'exit');
      child.disconnect();
      await ended;
    },
  };
}
