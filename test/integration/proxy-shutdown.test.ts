/** SIGTERM: what is under way ends well, what comes later is refused, and the log is complete. */
import { once } from 'node:events';
import { type Socket, connect } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { Pool } from 'undici';
import { startLoopClock } from '../support/loop-clock.js';
import { type ProxyRig, startProxyRig } from '../support/proxy-rig.js';
import { headerOf } from '../support/raw-client.js';
import { until } from '../support/until.js';

let rig: ProxyRig;

afterEach(() => rig.stop());

/** Whether a connection to the data plane can be had. */
async function accepts(): Promise<boolean> {
  const socket = connect({ port: rig.sidecar.dataPort, host: '127.0.0.1' });
  const connected = await once(socket, 'connect').then(
    () => true,
    () => false,
  );
  socket.destroy();
  return connected;
}

async function loggedOutcomes(): Promise<Map<string, string>> {
  const client = rig.installation.redis.client();
  const outcomes = new Map<string, string>();
  for (const key of await client.keys('log:*')) {
    for (const [, fields] of await client.xrange(key, '-', '+')) {
      const value = (name: string): string => fields[fields.indexOf(name) + 1] as string;
      expect(outcomes.has(value('requestId'))).toBe(false);
      outcomes.set(value('requestId'), value('outcome'));
    }
  }
  client.disconnect();
  return outcomes;
}

test('requests under way are answered whole, new connections refused, exit code 0', async () => {
  rig = await startProxyRig();
  const finish: (() => void)[] = [];
  const waiting = rig.script('waiting', (_, socket: Socket) => {
    finish.push(() => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'));
    return undefined;
  });
  const streaming = rig.script('streaming', (_, socket: Socket) => {
    socket.write('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello');
    finish.push(() => socket.write('world'));
    return undefined;
  });
  const idle = await rig.connect();
  idle.send(rig.request('GET', '/files/a'));
  await idle.answer();
  const first = await rig.connect();
  first.send(rig.request('GET', waiting));
  const second = await rig.connect();
  second.send(rig.request('GET', streaming));
  await second.bytes((bytes) => bytes.includes('hello'));
  await until(() => finish.length === 2);

  const stopped = rig.sidecar.stop();
  await until(async () => !(await accepts()));
  // A connection that was open may still ask, and is told that it was the last time.
  idle.send(rig.request('GET', '/files/b'));
  const last = await idle.answer();
  expect([last.status, headerOf(last.head, 'Connection')]).toEqual([200, 'close']);
  for (const end of finish) end();
  const answer = await first.answer();
  expect([answer.status, headerOf(answer.head, 'Connection'), answer.body.toString()]).toEqual([200, 'close', 'ok']);
  expect((await second.answer()).body.toString()).toBe('helloworld');
  expect(await stopped).toBe(0);
  for (const connection of [idle, first, second]) connection.close();
});

test('under load no request that was taken on is lost, and each is in the log exactly once', async () => {
  rig = await startProxyRig();
  const pool = new Pool(rig.sidecar.dataUrl, { connections: 16, pipelining: 1 });
  const answered: string[] = [];
  const failed: string[] = [];
  const unheard: string[] = [];
  let going = true;
  let sent = 0;
  const client = async (): Promise<void> => {
    while (going) {
      const requestId = `load-${(sent += 1)}-request`;
      try {
        const { statusCode, body } = await pool.request({
          method: 'GET',
          path: '/files/a',
          headers: { authorization: `Bearer ${rig.token.secret}`, 'x-request-id': requestId },
        });
        await body.dump();
        if (statusCode === 200) answered.push(requestId);
        else failed.push(`${requestId}: ${statusCode}`);
      } catch (error) {
        // Refused: the listener is closed. Reset: it was closed while the connection waited to be accepted, and only the
        // kernel knew of it (docs/adr/0008-processes.md); such a request must have got no further.
        if ((error as { code?: string }).code !== 'ECONNREFUSED') unheard.push(requestId);
        going = false;
      }
    }
  };
  const clients = Array.from({ length: 16 }, client);
  await until(() => answered.length > 500);
  expect(await rig.sidecar.stop()).toBe(0);
  await Promise.all(clients);
  await pool.destroy();
  expect(failed).toEqual([]);
  const outcomes = await loggedOutcomes();
  expect(answered.filter((requestId) => outcomes.get(requestId) !== 'ok')).toEqual([]);
  expect(unheard.filter((requestId) => outcomes.has(requestId))).toEqual([]);
});

test('a request that does not end is cut when the shutdown timeout is over, and logged', async () => {
  rig = await startProxyRig({ TOLLKEEPER_SHUTDOWN_TIMEOUT_MS: '500' });
  const path = rig.script('endless', () => undefined);
  const connection = await rig.connect();
  connection.send(rig.request('GET', path, ['X-Request-Id: endless-1']));
  await until(() => rig.seen(path).length === 1);
  const clock = startLoopClock();
  expect(await rig.sidecar.stop()).toBe(0);
  expect(clock.now()).toBeLessThan(5000);
  clock.stop();
  await connection.ended();
  expect((await loggedOutcomes()).has('endless-1')).toBe(true);
});
