/** What a node of a Cluster answers when a key is, or may be, at another one. In each case nothing has run. */

export type Redirection =
  /** The slot lies elsewhere from now on. */
  | { readonly kind: 'moved'; readonly slot: number; readonly node: string }
  /** This one key has gone ahead of its slot: `node` answers it behind ASKING, and only this once. */
  | { readonly kind: 'ask'; readonly slot: number; readonly node: string }
  /** Keys of one command are on both sides of a slot that is being moved. */
  | { readonly kind: 'try-again' };

/**
 * Reads MOVED, ASK and TRYAGAIN; undefined for any other error. `from`, the node that answered, lends its host where
 * the Cluster does not name one (`cluster-preferred-endpoint-type unknown-endpoint`).
 */
export function redirectionIn(error: unknown, from: string): Redirection | undefined {
  if (!(error instanceof Error) || error.name !== 'ReplyError') return undefined;
  if (error.message.startsWith('TRYAGAIN')) return { kind: 'try-again' };
  const [, word, slot, node = ''] = /^(MOVED|ASK) (\d+) (\S+)$/.exec(error.message) ?? [];
  if (word === undefined) return undefined;
  const named = node.startsWith(':') ? from.slice(0, from.lastIndexOf(':')) + node : node;
  return { kind: word === 'MOVED' ? 'moved' : 'ask', slot: Number(slot), node: named };
}
