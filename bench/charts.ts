/** Charts as self-contained SVG text. */
import { type Chart, type Series, short } from './report.ts';

const size = { width: 680, height: 300, left: 62, right: 190, top: 14, bottom: 34 };
const colours = ['#1769aa', '#b3541e', '#2f7d4f', '#7a4b9a', '#8a6d00'];

export const escapeText = (text: string): string =>
  text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);

interface Scale {
  readonly ticks: readonly number[];
  /** The vertical position of a value. */
  y(value: number): number;
}

function scaleOf(values: readonly number[], logarithmic: boolean): Scale {
  const room = size.height - size.top - size.bottom;
  const highest = Math.max(...values, Number.MIN_VALUE);
  if (!logarithmic) {
    const step = 10 ** Math.floor(Math.log10(highest));
    const unit = [0.2, 0.5, 1, 2].map((part) => part * step).find((part) => highest / part <= 6) ?? step;
    const top = Math.ceil(highest / unit) * unit;
    const ticks = Array.from({ length: Math.round(top / unit) + 1 }, (_, index) => index * unit);
    return { ticks, y: (value) => size.top + room * (1 - value / top) };
  }
  const steps = [1, 2, 5].flatMap((digit) => [-3, -2, -1, 0, 1, 2, 3, 4, 5, 6].map((power) => digit * 10 ** power));
  const sorted = steps.sort((a, b) => a - b);
  const low = sorted.findLast((step) => step <= Math.min(...values)) ?? 0.001;
  const high = sorted.find((step) => step >= highest) ?? highest;
  const ticks = sorted.filter((step) => step >= low && step <= high);
  const span = Math.log(high / low) || 1;
  return { ticks, y: (value) => size.top + room * (1 - Math.log(value / low) / span) };
}

const text = (x: number, y: number, anchor: string, content: string): string =>
  `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}">${escapeText(content)}</text>`;

function lines(series: Series, colour: string, x: (place: number) => number, scale: Scale): string {
  const points = series.values.flatMap((value, place) =>
    value === undefined ? [] : [{ x: x(place), y: scale.y(value), value }],
  );
  const path = points.map((point) => `${point.x.toFixed(1)},${point.y.toFixed(1)}`).join(' ');
  const dots = points.map(
    (point) =>
      `<circle cx="${point.x.toFixed(1)}" cy="${point.y.toFixed(1)}" r="3.5" fill="${colour}"><title>${escapeText(series.name)}: ${short(point.value)}</title></circle>`,
  );
  return `<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="2"/>${dots.join('')}`;
}

function bars(chart: Chart, scale: Scale, slot: number): string {
  const floor = size.height - size.bottom;
  const width = (slot * 0.8) / chart.series.length;
  return chart.series
    .flatMap((series, index) =>
      series.values.map((value, place) => {
        if (value === undefined) return '';
        const x = size.left + slot * (place + 0.1) + width * index;
        const y = scale.y(value);
        const colour = colours[index % colours.length] ?? 'black';
        return `<rect x="${x.toFixed(1)}" y="${y.toFixed(1)}" width="${(width - 1).toFixed(1)}" height="${Math.max(0, floor - y).toFixed(1)}" fill="${colour}"><title>${escapeText(series.name)}: ${short(value)}</title></rect>`;
      }),
    )
    .join('');
}

/** One chart as an svg element; empty when it has no values. */
export function chartSvg(chart: Chart): string {
  const values = chart.series.flatMap((series) => series.values.filter((value) => value !== undefined));
  if (values.length === 0) return '';
  const slot = (size.width - size.left - size.right) / chart.places.length;
  const middle = (place: number): number => size.left + slot * (place + 0.5);
  const scale = scaleOf(values, chart.logarithmic ?? false);
  const right = size.width - size.right;
  const grid = scale.ticks.map((tick) => {
    const y = scale.y(tick);
    return `<line x1="${size.left}" x2="${right}" y1="${y.toFixed(1)}" y2="${y.toFixed(1)}" class="grid"/>${text(size.left - 6, y + 4, 'end', short(tick))}`;
  });
  const places = chart.places.map((place, index) => text(middle(index), size.height - 14, 'middle', place));
  const legend = chart.series.map(
    (series, index) =>
      `<rect x="${right + 14}" y="${size.top + 20 * index}" width="11" height="11" fill="${colours[index % colours.length] ?? ''}"/>${text(right + 31, size.top + 20 * index + 10, 'start', series.name)}`,
  );
  const marks =
    chart.form === 'bars'
      ? bars(chart, scale, slot)
      : chart.series
          .map((series, index) => lines(series, colours[index % colours.length] ?? '', middle, scale))
          .join('');
  const label = `${chart.title} (${chart.unit})`;
  return `<svg viewBox="0 0 ${size.width} ${size.height}" role="img" aria-label="${escapeText(label)}">${[...grid, ...places, ...legend].join('')}${marks}</svg>`;
}
