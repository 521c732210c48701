/**
 * A Redis with a great number of tokens, written in their stored form: one tenant and one token are made by the command
 * line, and their records are copied under other names, pipelined. Takes about 20 s a million.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import { runJson } from '../../test/support/cli.js';
import type { RedisServer } from '../../test/support/redis.js';
import { keys, shardOf } from '../../src/redis/keys.js';
import { manyToken } from '../load/many-tokens.js';

const tenantCount = 1000;
const tenantTokensMax = 1_000_000;
/** Commands in one write. */
const commandsAtOnce = 2000;

/** The hash of a record, taken apart where the copies differ. */
class Template {
  readonly #fields: readonly (readonly [name: string, value: Buffer])[];
  readonly #json: string;

  constructor(fields: Record<string, Buffer>) {
    this.#json = (fields['record'] as Buffer).toString();
    // What the original has counted is its own.
    this.#fields = Object.entries(fields).filter(([name]) => name !== 'record' && name !== 'counters');
  }

  /** HSET of a copy; `replaced` are pairs of texts in the JSON, each of which must occur. */
  command(key: string, replaced: readonly (readonly [string, string])[]): Buffer {
    let json = this.#json;
    for (const [from, to] of replaced) {
      if (!json.includes(from)) throw new Error(`the record has no ${from}`);
      json = json.replace(from, () => to);
    }
    return respCommand(['HSET', key, 'record', json, ...this.#fields.flat()]);
  }
}

/**
 * Fills an empty Redis with `count` tokens of many-tokens.ts, spread over 1,000 tenants; `limit`: calls a minute;
 * `program`: the Tollkeeper that makes the originals.
 */
export async function fillWithTokens(
  server: RedisServer,
  count: number,
  limit: number,
  program: string,
): Promise<void> {
  const env = { TOLLKEEPER_REDIS_URL: server.url };
  await runJson(['tenant', 'create', 't0', '--name', 't0', '--max-tokens', String(tenantTokensMax)], env, program);
  const about = ['--tenant', 't0', '--name', 'bench', '--scopes', 'products:read', '--window', '60'];
  const made = await runJson<{ token: { id: string }; secret: string }>(
    ['token', 'create', ...about, '--limit', String(limit)],
    env,
    program,
  );
  const redis = server.client();
  const token = new Template(await redis.hgetallBuffer(keys.token(made.token.id)));
  const tenant = new Template(await redis.hgetallBuffer(keys.tenant('t0')));
  const madeSha = createHash('sha256').update(made.secret).digest('hex');
  const slugs = slugsByShard();

  function* commands(): Generator<Buffer> {
    for (const slug of [...slugs.values()].flat()) {
      if (slug === 't0') continue;
      yield tenant.command(keys.tenant(slug), [['"slug":"t0"', `"slug":"${slug}"`]]);
      yield respCommand(['ZADD', keys.tenants(), '1', slug]);
    }
    for (let number = 0; number < count; number++) {
      const { id, plaintext } = manyToken(number);
      const ofShard = slugs.get(shardOf(id)) as string[];
      const slug = ofShard[number % ofShard.length] as string;
      yield token.command(keys.token(id), [
        [made.token.id, id],
        ['"tenant":"t0"', `"tenant":"${slug}"`],
        [madeSha, createHash('sha256').update(plaintext).digest('hex')],
      ]);
      yield respCommand(['ZADD', keys.tenantTokens(slug), String(number), id]);
    }
  }
  await pipelined(server.port, commands());
}

/** Slugs `t0` to `t999` by their shard: a token belongs to a tenant of the shard of its id. */
function slugsByShard(): Map<string, string[]> {
  const byShard = new Map<string, string[]>();
  for (let index = 0; index < tenantCount; index++) {
    const slug = `t${index}`;
    byShard.set(shardOf(slug), [...(byShard.get(shardOf(slug)) ?? []), slug]);
  }
  return byShard;
}

function respCommand(words: readonly (string | Buffer)[]): Buffer {
  const parts: Buffer[] = [Buffer.from(`*${words.length}\r\n`)];
  for (const word of words) {
    const bytes = Buffer.from(word as string);
    parts.push(Buffer.from(`$${bytes.length}\r\n`), bytes, Buffer.from('\r\n'));
  }
  return Buffer.concat(parts);
}

/** Sends commands whose replies are integers, and waits for all of these. @throws Error at the first other reply. */
async function pipelined(port: number, commands: Iterable<Buffer>): Promise<void> {
  const socket = connect(port, '127.0.0.1');
  await once(socket, 'connect');
  let sent = 0;
  let answered = 0;
  let wrong = '';
  socket.on('data', (chunk: Buffer) => {
    for (const byte of chunk) {
      if (byte === 0x0a) answered++;
      else if (byte === 0x2d && wrong === '') wrong = chunk.toString();
    }
  });
  let waiting: Buffer[] = [];
  const write = async (): Promise<void> => {
    const isTaken = socket.write(Buffer.concat(waiting));
    waiting = [];
    if (!isTaken) await once(socket, 'drain');
    if (wrong !== '') throw new Error(`Redis refused: ${wrong}`);
  };
  for (const command of commands) {
    sent++;
    waiting.push(command);
    if (waiting.length === commandsAtOnce) await write();
  }
  await write();
  while (answered < sent) await once(socket, 'data');
  socket.destroy();
}
