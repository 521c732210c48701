/**
 * Which Host headers the admin plane answers. DNS rebinding needs a name that a stranger can point at this machine, so
 * allowed is what no stranger can own: an IP address, `localhost` and what is below it, a name without a dot (a
 * service of a private network, such as `tollkeeper` in Compose), the name listened on, and names that are configured.
 */
import { isIP } from 'node:net';

export class HostAllowList {
  readonly #names: ReadonlySet<string>;

  constructor(names: readonly string[]) {
    this.#names = new Set(names.map((name) => name.toLowerCase()));
  }

  /** `host` is the header's value. Without one the client is no browser: HTTP/1.1 demands it, and browsers send it. */
  allows(host: string | undefined): boolean {
    if (host === undefined) return true;
    const name = hostName(host);
    if (name === undefined) return false;
    return isIP(name) !== 0 || !name.includes('.') || name.endsWith('.localhost') || this.#names.has(name);
  }
}

/** The name in `name`, `name:port` or `[address]:port`, in lower case and without a final dot; undefined if malformed. */
function hostName(host: string): string | undefined {
  const parts = /^(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+?)\.?)(?::\d{1,5})?$/i.exec(host);
  return (parts?.[1] ?? parts?.[2])?.toLowerCase();
}
