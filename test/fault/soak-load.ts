/** The mixed load of a soak, at a steady rate. */
import { createHash, createHmac } from 'node:crypto';
import type { IssuedToken } from '../support/installation.js';
import type { FaultRig } from './fault-rig.js';
import type { Call } from './history.js';

/** Requests that may be open; what is due beyond waits. */
const openMax = 2000;
const stepMs = 10;

export interface Load {
  /** Ends it and waits for the answers. */
  stop(): Promise<void>;
}

/**
 * Of 20 requests: 10 proxied GETs, 3 signed POSTs, 2 of a token over its limit, one of a revoked token, one out of
 * scope, 2 public, one upload of 64 KiB.
 */
export async function startLoad(rig: FaultRig, rate: number): Promise<Load> {
  const send = await sender(rig);
  const open = new Set<Promise<Call>>();
  let going = true;
  const run = (async () => {
    const startedAtMs = performance.now();
    let sent = 0;
    while (going) {
      const due = ((performance.now() - startedAtMs) / 1000) * rate;
      for (; sent < due && open.size < openMax; sent += 1) {
        const call = send();
        open.add(call);
        void call.finally(() => open.delete(call));
      }
      await pass(stepMs);
    }
    await Promise.all(open);
  })();
  return {
    async stop() {
      going = false;
      await run;
    },
  };
}

async function sender(rig: FaultRig): Promise<() => Promise<Call>> {
  const { installation } = rig;
  const signer = await installation.token('acme', '--scopes', 'files', '--mode', 'hmac', '--limit', '1000000');
  const limited = await installation.token('acme', '--scopes', 'files', '--limit', '60', '--window', '60');
  const gone = await installation.token('acme', '--scopes', 'files');
  await installation.command('token', 'revoke', gone.id);
  const body = 'b'.repeat(2048);
  const upload = Buffer.alloc(64 * 1024, 1);
  let number = 0;
  return () => {
    const kind = number++ % 20;
    if (kind < 10) return rig.send('/files/a');
    if (kind < 13) {
      const headers = signedPost(signer, '/files/a', body, `s${number}`);
      return rig.history.call(rig.pool(), '/files/a', { method: 'POST', headers, body });
    }
    if (kind < 15) return rig.send('/files/a', { token: limited.secret });
    if (kind < 16) return rig.send('/files/a', { token: gone.secret });
    if (kind < 17) return rig.send('/secrets/a');
    if (kind < 19) return rig.send('/open/a');
    return rig.send('/files/upload', { method: 'PUT', body: upload });
  };
}

function signedPost(token: IssuedToken, path: string, body: string, nonce: string): Record<string, string> {
  const timestamp = String(Math.floor(Date.now() / 1000));
  const digest = createHash('sha256').update(body).digest('hex');
  const text = ['POST', path, timestamp, nonce, digest].join('\n');
  return {
    'x-tollkeeper-token': token.id,
    'x-tollkeeper-timestamp': timestamp,
    'x-tollkeeper-nonce': nonce,
    'x-tollkeeper-signature': createHmac('sha256', token.secret).update(text).digest('hex'),
  };
}

/** Resolves after `ms`; a soak is about time. */
export function pass(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}
