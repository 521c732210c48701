/** Bar charts of the medians as SVG files, without a library: rectangles and text, readable on light and dark pages. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Figures } from '../harness/measure.js';
import type { Row } from './summary.js';
import { loadName } from './targets.js';

interface Bar {
  readonly label: string;
  readonly parts: readonly number[];
}

interface Chart {
  readonly file: string;
  readonly title: string;
  /** Names of the parts of a bar. */
  readonly parts: readonly string[];
  readonly bars: readonly Bar[];
}

const [width, labelWidth, barHeight, gap, top] = [760, 200, 18, 8, 56];
const colours = ['#3b6fb6', '#d98b2b'];

/** Writes the charts of these rows into `dir`; answers Markdown that shows them, with paths relative to `base`. */
export function writePlots(rows: readonly Row[], dir: string, base: string): string[] {
  mkdirSync(dir, { recursive: true });
  return chartsOf(rows).map((chart) => {
    writeFileSync(join(dir, chart.file), svgOf(chart));
    return `![${chart.title}](${base}/${chart.file})`;
  });
}

function chartsOf(rows: readonly Row[]): Chart[] {
  const rates = [...new Set(rows.map((row) => row.rate))];
  return rates.flatMap((rate) => {
    const own = rows.filter((row) => row.rate === rate && row.figures !== undefined);
    // One bar compares nothing.
    if (own.length < 2) return [];
    const bars = (...names: (keyof Figures)[]): Bar[] =>
      own.map(({ scenario, figures }) => ({
        label: scenario,
        parts: names.map((name) => figures?.[name].median ?? 0),
      }));
    const cpu: Chart = {
      file: rate === 0 ? 'cpu-closed-loop.svg' : `cpu-at-${rate}.svg`,
      title: `CPU per request, microseconds, ${loadName(rate)}`,
      parts: ['measured process', 'Redis'],
      bars: bars('cpuUs', 'redisCpuUs'),
    };
    if (rate === 0) return [cpu];
    const latency: Chart = {
      file: `p99-at-${rate}.svg`,
      title: `99th percentile of latency, ms, ${loadName(rate)}`,
      parts: ['p99'],
      bars: bars('p99Ms'),
    };
    return [cpu, latency];
  });
}

function svgOf({ title, parts, bars }: Chart): string {
  // One body of 1 MiB would make all other bars invisible.
  const totals = bars.map(sumOf).sort((left, right) => left - right);
  const longest = Math.min(totals.at(-1) ?? 1, 4 * (totals[totals.length >> 1] ?? 1));
  const scale = (width - labelWidth - 80) / longest;
  const height = top + bars.length * (barHeight + gap) + gap;
  const lines = bars.map((bar, index) => barSvg(bar, top + index * (barHeight + gap), scale, longest));
  const legend = parts.map((part, index) => {
    const x = labelWidth + index * 160;
    return `<rect x="${x}" y="32" width="12" height="12" fill="${colours[index]}"/>${text(x + 18, 43, part)}`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="13">
<rect width="100%" height="100%" fill="#ffffff"/>
${text(12, 22, title, 'font-weight="bold"')}
${[...legend, ...lines].join('\n')}
</svg>
`;
}

function barSvg(bar: Bar, y: number, scale: number, longest: number): string {
  const total = sumOf(bar);
  let x = labelWidth;
  const rects = bar.parts.map((part, index) => {
    const length = Math.max(0, Math.min(part, longest - (x - labelWidth) / scale)) * scale;
    const rect = `<rect x="${x.toFixed(1)}" y="${y}" width="${length.toFixed(1)}" height="${barHeight}" fill="${colours[index]}"/>`;
    x += length;
    return rect;
  });
  const shown = bar.parts.filter((part) => part > 0).map((part) => part.toFixed(part < 10 ? 2 : 1));
  const note = `${shown.join(' + ')}${total > longest ? ' (cut)' : ''}`;
  return `${text(labelWidth - 8, y + 14, bar.label, 'text-anchor="end"')}${rects.join('')}${text(x + 6, y + 14, note)}`;
}

function sumOf({ parts }: Bar): number {
  return parts.reduce((sum, part) => sum + part, 0);
}

function text(x: number, y: number, content: string, attributes = ''): string {
  return `<text x="${x.toFixed(1)}" y="${y}" fill="#222222" ${attributes}>${content}</text>`;
}
