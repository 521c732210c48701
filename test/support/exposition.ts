/** Reads the Prometheus text format strictly: a line that is none of its forms is an error. */

const sampleLine = /^([a-zA-Z_:][\w:]*(?:\{[a-z_]\w*="(?:[^"\\]|\\.)*"(?:,[a-z_]\w*="(?:[^"\\]|\\.)*")*\})?) (\S+)$/;

function linesOf(text: string): string[] {
  return text.split('\n').filter((line) => line !== '');
}

/** Value of each sample by its name with labels, as written. */
export function samplesOf(text: string): Map<string, number> {
  const samples = new Map<string, number>();
  for (const line of linesOf(text)) {
    if (/^# (HELP|TYPE) /.test(line)) continue;
    const parts = sampleLine.exec(line);
    if (parts === null) throw new Error(`not a line of the text format: ${line}`);
    const [, name = '', value = ''] = parts;
    if (samples.has(name)) throw new Error(`a sample twice: ${name}`);
    samples.set(name, value === 'Nan' ? Number.NaN : Number(value));
  }
  return samples;
}

/** Declared type of each metric. */
export function typesOf(text: string): Map<string, string> {
  const types = new Map<string, string>();
  for (const line of linesOf(text)) {
    const [, name, type] = /^# TYPE (\S+) (\S+)$/.exec(line) ?? [];
    if (name !== undefined && type !== undefined) types.set(name, type);
  }
  return types;
}
