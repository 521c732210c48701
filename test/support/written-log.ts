/** Writes entries to a real Redis through the real log writer. */
import type { LogEntry } from '../../src/accesslog/entry.js';
import { AccessLog, type AccessLogOptions } from '../../src/accesslog/writer.js';
import { connectOrFail } from '../../src/redis/connect.js';
import { sampleEntry } from './log-entry.js';

interface OpenLog {
  readonly log: AccessLog;
  /** Appends sample entries of now and answers when Redis has them. */
  write(count: number): Promise<void>;
  close(): Promise<void>;
}

/** A log writer on a connection of its own. */
export async function openLog(url: string, options: Partial<AccessLogOptions> = {}): Promise<OpenLog> {
  const redis = await connectOrFail({ url, commandTimeoutMs: 20_000 });
  const log = new AccessLog({
    redis,
    retentionDays: 30,
    streamMaxEntries: 10_000_000,
    bufferMaxEntries: 10_000_000,
    flushIntervalMs: 100,
    metrics: { logEntries: () => {}, storeError: () => {} },
    logger: { info: () => {}, warn: () => {} },
    ...options,
  });
  const written = ({ remaining }: { remaining: number }): void => {
    if (remaining > 0) throw new Error(`${remaining} log entries were not written`);
  };
  return {
    log,
    write: async (count) => {
      for (let done = 0; done < count; done += 1) log.append(sampleEntry({ timeMs: Date.now() }));
      written(await log.flush(120_000));
    },
    close: async () => {
      written(await log.close({ stalledMs: 60_000, deadlineMs: 60_000 }));
      redis.disconnect();
    },
  };
}

/** Appends the entries in their order and answers when Redis has them all. */
export async function writeLog(
  url: string,
  entries: Iterable<LogEntry>,
  options: Partial<AccessLogOptions> = {},
): Promise<void> {
  const { log, close } = await openLog(url, options);
  for (const entry of entries) log.append(entry);
  await close();
}
