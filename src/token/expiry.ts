/** When a token ends, as people write it. */

const unitMs: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };
/** The end of the year 9999, the last that RFC 3339 can write. */
const lastMs = Date.UTC(10_000, 0, 1) - 1;

/**
 * Reads an RFC 3339 time with its offset (`2027-01-31T00:00:00Z`), or a time from now on (`30d`; units s, m, h, d, w).
 * Answers ms since 1970, or what is wrong with it.
 */
export function readExpiry(text: string, nowMs: number): number | string {
  const relative = /^([1-9]\d{0,8})([smhdw])$/.exec(text);
  const time =
    relative === null ? readTime(text) : nowMs + Number(relative[1]) * (unitMs[relative[2] as string] as number);
  if (Number.isNaN(time))
    return 'must be an RFC 3339 time such as 2027-01-31T00:00:00Z, or a time from now such as 30d';
  if (time > lastMs) return 'must be before the year 10000';
  return time > nowMs ? time : 'must be in the future';
}

/** NaN for what is no RFC 3339 time; also for a 30th of February, which Date would make a day of March. */
function readTime(text: string): number {
  const parts = /^(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d(?:\.\d{1,9})?)([Zz]|[+-]\d\d:\d\d)$/.exec(text);
  if (parts === null) return Number.NaN;
  const [, day = '', clock = '', offset = ''] = parts;
  const utc = Date.parse(`${day}T${clock}Z`);
  if (Number.isNaN(utc) || new Date(utc).toISOString().slice(0, 10) !== day) return Number.NaN;
  return Date.parse(`${day}T${clock}${offset.toUpperCase()}`);
}
