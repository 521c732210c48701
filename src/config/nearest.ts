/**
 * The known name that a mistyped one most likely meant, or undefined when none is near: one edit for every three
 * letters, at most three. Case, dashes, underscores and the prefix of environment names do not count.
 */
export function nearestName(typed: string, known: readonly string[]): string | undefined {
  const plain = (name: string) =>
    name
      .toLowerCase()
      .replace(/[-_]/g, '')
      .replace(/^tollkeeper/, '');
  const wanted = plain(typed).slice(0, 64);
  let best: string | undefined;
  let bestDistance = Math.min(3, Math.max(1, Math.floor(wanted.length / 3))) + 1;
  for (const name of known) {
    const distance = editDistance(wanted, plain(name));
    if (distance < bestDistance) [best, bestDistance] = [name, distance];
  }
  return best;
}

/** Levenshtein distance: letters to insert, remove or replace. */
function editDistance(from: string, to: string): number {
  let previous = Array.from({ length: to.length + 1 }, (_, column) => column);
  for (let row = 1; row <= from.length; row++) {
    const current = [row];
    for (let column = 1; column <= to.length; column++) {
      const replaced = (previous[column - 1] as number) + (from[row - 1] === to[column - 1] ? 0 : 1);
      current.push(Math.min(replaced, (previous[column] as number) + 1, (current[column - 1] as number) + 1));
    }
    previous = current;
  }
  return previous[to.length] as number;
}
