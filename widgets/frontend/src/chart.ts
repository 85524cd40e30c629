// What charts share: axes, a frame that follows the width of the page, numbers with units, and series of lines.
// Scales and shapes are those of d3; what is drawn is drawn here, so that it follows the colours of the theme.
import { h, s, type Child } from "./dom";

export interface Frame { left: number; top: number; right: number; bottom: number }
/** A scale of d3, as far as an axis needs one. */
export interface Scale { (value: number): number; ticks(count?: number): number[] }

/** The order in which series take their colours; each has a dash, too, and a mark. */
export const SERIES = 6;

export function bytes(n: number): string {
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (n < 1023.5) return `${Number(n.toPrecision(4))} ${unit}`;
    n /= 1024;
  }
  return `${Number(n.toPrecision(4))} TiB`;
}

/** A scale of bytes: its ticks are a power of two apart, as sizes in memory are. */
export function inBytes<S extends Scale & { domain(): number[] }>(scale: S): S {
  const [lo, hi] = scale.domain();
  const ticks = (count = 5): number[] => {
    const step = 2 ** Math.max(0, Math.round(Math.log2((hi - lo) / count || 1)));
    return Array.from({ length: Math.floor(hi / step) + 1 }, (_, k) => k * step);
  };
  return Object.assign(scale, { ticks });
}

/** A number with a unit and a prefix, in three digits: 2.1 MFLOP, 32.1 µs. */
export function quantity(n: number, unit: string): string {
  const space = unit ? " " : "";
  if (!n) return `0${space}${unit}`;
  if (unit === "s" && Math.abs(n) >= 60) return duration(n);
  const prefixes: [number, string][] = unit === "s" ? [[1, ""], [1e-3, "m"], [1e-6, "µ"], [1e-9, "n"]] : [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]];
  const [size, prefix] = prefixes.find(([p]) => Math.abs(n) >= p * 0.9995) ?? prefixes.at(-1)!;
  return `${Number((n / size).toPrecision(3))}${space || (prefix ? " " : "")}${prefix}${unit}`;
}

/** Seconds as people say them: 8 s, 2 min 5 s, 1 h 3 min. */
export function duration(seconds: number): string {
  const all = Math.round(seconds);
  if (all < 60) return `${all} s`;
  if (all < 3600) return `${Math.floor(all / 60)} min ${all % 60} s`;
  return `${Math.floor(all / 3600)} h ${Math.floor((all % 3600) / 60)} min`;
}

export const many = (n: number, word: string): string => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;

/** Ticks on the left, with lines across the frame, and what is measured above them. */
export function yAxis(f: Frame, scale: Scale, words: (v: number) => string, label: string, count = 5): SVGGElement {
  const g = s("g", { class: "mgw-axis" });
  for (const v of scale.ticks(count)) {
    const y = scale(v);
    g.append(s("line", { class: "mgw-grid", x1: f.left, x2: f.right, y1: y, y2: y }), s("text", { x: f.left - 6, y: y + 5, "text-anchor": "end" }, words(v)));
  }
  g.append(s("text", { class: "mgw-axis-label", x: f.left, y: f.top - 9 }, label));
  return g;
}

/** Ticks below the frame, and what is measured at their right end. */
export function xAxis(f: Frame, scale: Scale, words: (v: number) => string, label: string, count = 8, grid = false): SVGGElement {
  const g = s("g", { class: "mgw-axis" }, s("line", { x1: f.left, x2: f.right, y1: f.bottom, y2: f.bottom }));
  for (const v of scale.ticks(count)) {
    const x = scale(v);
    if (grid) g.append(s("line", { class: "mgw-grid", x1: x, x2: x, y1: f.top, y2: f.bottom }));
    g.append(s("line", { x1: x, x2: x, y1: f.bottom, y2: f.bottom + 4 }), s("text", { x, y: f.bottom + 19, "text-anchor": "middle" }, words(v)));
  }
  g.append(s("text", { class: "mgw-axis-label", x: f.right, y: f.bottom + 37, "text-anchor": "end" }, label));
  return g;
}

/** A drawing that fills its place; `call(width)` is called again whenever the place has another width. */
export function whenWide(place: HTMLElement, call: (width: number) => void): () => void {
  let last = 0;
  const look = (): void => {
    const width = Math.round(place.clientWidth) || 800;
    if (Math.abs(width - last) < 2) return;
    last = width;
    call(width);
  };
  look();
  if (typeof ResizeObserver === "undefined") return () => {};
  const observer = new ResizeObserver(() => requestAnimationFrame(look));
  observer.observe(place);
  return () => observer.disconnect();
}

/** Buttons of which one is pressed. */
export function choice(label: string, names: Child[], call: (i: number) => void): { element: HTMLElement; set(i: number): void } {
  const buttons = names.map((name, i) => h("button", { type: "button", "aria-pressed": "false", onclick: () => call(i) }, name));
  const element = h("div", { class: "mgw-choice", role: "group", "aria-label": label }, ...buttons);
  return { element, set: (i) => buttons.forEach((b, k) => b.setAttribute("aria-pressed", String(k === i))) };
}

/** A text of at most so many pixels, at 7.5 of them for a character. */
export function fitting(text: string, pixels: number): string {
  const most = Math.floor(pixels / 7.5);
  return text.length <= most ? text : most < 3 ? "" : `${text.slice(0, most - 1)}…`;
}
