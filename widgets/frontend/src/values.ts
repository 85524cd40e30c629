// Summaries of values (see values.py) as something to look at: a number, a heat map, a histogram.
import { h, s, type Child } from "./dom";

export interface Thumbnail {
  pixels: string;
  size: [number, number];
  lo: number | string;
  hi: number | string;
}
export interface Statistics {
  size: number;
  sampled?: number;
  min?: number | string;
  max?: number | string;
  mean?: number | string;
  std?: number | string;
  zero?: number;
  nan?: number;
  inf?: number;
  bins?: number[];
}
export interface Summary {
  text: string;
  type: string;
  numbers?: string[];
  map?: Thumbnail | null;
  stats?: Statistics;
}

// From blue over a light middle to orange (both signs), or from light to blue: told apart by brightness alone, too.
const BLUE = [0, 90, 160];
const MIDDLE = [247, 247, 247];
const ORANGE = [213, 94, 0];
const BROKEN = [200, 0, 200]; // NaN and infinity

export function colour(byte: number, signed: boolean): number[] {
  if (byte === 255) return BROKEN;
  const t = byte / 254;
  const [from, to, u] = !signed ? [MIDDLE, BLUE, t] : t < 0.5 ? [BLUE, MIDDLE, 2 * t] : [MIDDLE, ORANGE, 2 * t - 1];
  return from.map((c, i) => Math.round(c + (to[i] - c) * u));
}

const drawn = new Map<string, string>();

/** A thumbnail as the address of a small picture. */
export function picture(map: Thumbnail): string {
  const key = `${map.size}:${map.lo}:${map.pixels}`;
  let url = drawn.get(key);
  if (url === undefined) {
    const [width, height] = map.size;
    const bytes = Uint8Array.from(atob(map.pixels), (c) => c.charCodeAt(0));
    const canvas = h("canvas", { width, height });
    const context = canvas.getContext("2d");
    if (!context) return "";
    const image = context.createImageData(width, height);
    const signed = Number(map.lo) < 0 && Number(map.hi) > 0;
    bytes.forEach((b, i) => image.data.set([...colour(b, signed), 255], 4 * i));
    context.putImageData(image, 0, 0);
    url = canvas.toDataURL();
    if (drawn.size > 5000) drawn.clear();
    drawn.set(key, url);
  }
  return url;
}

/** The thumbnail inside a drawing, as large as fits into a rectangle. */
export function inside(map: Thumbnail, x: number, y: number, width: number, height: number): SVGElement {
  const [columns, rows] = map.size;
  const scale = Math.min(width / columns, height / rows);
  const [w, t] = [Math.max(columns * scale, 2), Math.max(rows * scale, 2)];
  return s("image", {
    class: "mgw-map", href: picture(map), x: x + (width - w) / 2, y: y + (height - t) / 2, width: w, height: t,
    preserveAspectRatio: "none",
  });
}

export function histogram(bins: number[], width = 150, height = 34): SVGElement {
  const top = Math.max(...bins, 1);
  const step = width / bins.length;
  const bars = bins.map((n, i) => {
    const tall = (n / top) * height;
    return s("rect", { x: i * step, y: height - tall, width: Math.max(step - 1, 1), height: tall });
  });
  return s("svg", { class: "mgw-histogram", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "histogram" }, ...bars);
}

/** Everything that is known of a value, for the panel beside a drawing. */
export function details(value: Summary | undefined): Child {
  if (!value) return null;
  const stats = value.stats;
  const facts: string[] = [];
  if (stats) {
    for (const name of ["min", "max", "mean", "std"] as const) if (stats[name] !== undefined) facts.push(`${name} ${stats[name]}`);
    for (const [name, text] of [["zero", "zeros"], ["nan", "NaN"], ["inf", "infinite"]] as const) {
      if (stats[name]) facts.push(`${stats[name]!.toLocaleString("en")} ${text}`);
    }
    if (stats.sampled) facts.push(`of ${stats.sampled.toLocaleString("en")} sampled elements`);
  }
  return h(
    "div",
    { class: "mgw-value" },
    h("span", { class: "mgw-number" }, value.text),
    h("span", { class: "mgw-type" }, value.type),
    value.map && h("img", {
      class: "mgw-thumb", src: picture(value.map), alt: `heat map from ${value.map.lo} to ${value.map.hi}`,
      title: `from ${value.map.lo} to ${value.map.hi}`, style: `aspect-ratio:${value.map.size[0]}/${value.map.size[1]}`,
    }),
    value.map && h("span", { class: "mgw-scale" }, `${value.map.lo} to ${value.map.hi}`),
    stats?.bins && (histogram(stats.bins) as unknown as Node),
    facts.length > 0 && h("span", { class: "mgw-facts" }, facts.join(" · ")),
  );
}
