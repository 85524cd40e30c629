// The profile (see profile.py): a table of steps that can be sorted, and the roofline with each step as a point. What is
// chosen in one is marked in the other.
import { scaleLog } from "d3-scale";
import type { Channel } from "./channel";
import { bytes, many, quantity, whenWide, type Frame } from "./chart";
import { button, h, keys, s } from "./dom";

export interface Row {
  number: number; name: string; kind: string; result: string; scope: string; line: string; members: string[];
  best: number; median: number; share: number; flops: number; read: number; written: number; least: number | null; double: boolean;
}
interface Machine {
  processor: string; threads: number; single: number; double: number; levels: [name: string, capacity: number | null, bandwidth: number][]; tool: string; product: string;
}
export interface Profiled {
  kind: "profile"; title: string; what: string; notes: string[]; language: string; calls: number; rows: Row[]; best: number; median: number; outside: number;
  machine: Machine | null;
}

const moved = (r: Row): number => r.read + r.written;
const intensity = (r: Row): number => (moved(r) ? r.flops / moved(r) : 0);
const speed = (r: Row): number => (r.best ? r.flops / r.best : 0);
const distance = (r: Row): number => (r.least ? r.best / r.least : 0);
const times = (d: number): string => (!d ? "" : d < 999 ? `${Number(d.toPrecision(3))}×` : ">999×");

interface Column { key: string; head: string; about: string; value: (r: Row) => number | string; text: (r: Row) => string; words?: boolean }
export const COLUMNS: Column[] = [
  { key: "number", head: "#", about: "order of execution", value: (r) => r.number, text: (r) => String(r.number + 1) },
  { key: "name", head: "step", about: "what it computes", value: (r) => r.name, text: (r) => r.name, words: true },
  { key: "kind", head: "kind", about: "a kernel is a loop nest, a statement a library call, a callback the operation's own code", value: (r) => r.kind, text: (r) => r.kind, words: true },
  { key: "best", head: "time", about: "the shortest time over all calls", value: (r) => r.best, text: (r) => quantity(r.best, "s") },
  { key: "share", head: "share", about: "part of the time of all steps", value: (r) => r.share, text: (r) => `${(100 * r.share).toFixed(1)} %` },
  { key: "flops", head: "FLOP", about: "floating-point operations", value: (r) => r.flops, text: (r) => quantity(r.flops, "") },
  { key: "bytes", head: "bytes", about: "bytes read and written", value: moved, text: (r) => quantity(moved(r), "B") },
  { key: "intensity", head: "FLOP/B", about: "arithmetic intensity: operations for each byte", value: intensity, text: (r) => (moved(r) ? String(Number(intensity(r).toPrecision(3))) : "") },
  { key: "speed", head: "FLOP/s", about: "operations a second", value: speed, text: (r) => (r.flops ? quantity(speed(r), "") : "") },
  { key: "distance", head: "roofline", about: "how many times longer than this machine needs at least", value: distance, text: (r) => times(distance(r)) },
];
const SHOWN = 200; // rows of the table that are built: the first ones in its order
const SHAPES: Record<string, string> = { // around 0,0; as large as a circle of radius 1
  kernel: "M-1,0a1,1 0 1,0 2,0a1,1 0 1,0 -2,0Z", statement: "M-.9,-.9H.9V.9H-.9Z", callback: "M0,-1.15L1.1,.85H-1.1Z", call: "M0,-1.2L1.2,0L0,1.2L-1.2,0Z",
};
const KINDS: Record<string, string> = { kernel: "● kernel", statement: "■ statement", callback: "▲ callback", call: "◆ call" };

/** The rows in the order of a column: words from A to Z, numbers from the largest down, the order of execution from the first. */
export function ordered(rows: Row[], key: string, reverse = false): Row[] {
  const column = COLUMNS.find((c) => c.key === key) ?? COLUMNS[3];
  const up = column.words || column.key === "number";
  const sign = (up ? 1 : -1) * (reverse ? -1 : 1);
  const compare = (a: number | string, b: number | string): number => (a < b ? -1 : a > b ? 1 : 0);
  return [...rows].sort((a, b) => sign * compare(column.value(a), column.value(b)) || a.number - b.number);
}

/** The fastest level that holds so many bytes, and what limits a step there: its bytes, or its arithmetic. */
export function limit(m: Machine, r: Row): { level: string; by: "bytes" | "arithmetic" } {
  const [level, , bandwidth] = m.levels.find(([, capacity]) => capacity === null || moved(r) <= capacity) ?? m.levels.at(-1)!;
  return { level, by: intensity(r) * bandwidth < (r.double ? m.double : m.single) ? "bytes" : "arithmetic" };
}

const levels = (m: Machine): string =>
  m.levels.map(([name, capacity, bandwidth]) => `${name} ${quantity(bandwidth, "B/s")}${capacity === null ? "" : ` up to ${bytes(capacity)}`}`).join(", ");

export function profile(root: HTMLElement, channel: Channel): () => void {
  const doc: Profiled = channel.get("document");
  const { rows, machine } = doc;
  let reverse = false;
  let order: Row[] = [];
  let lines = new Map<number, HTMLTableRowElement>();
  let points = new Map<number, SVGElement>();

  const status = h("div", { class: "mgw-status", role: "status", "aria-live": "polite" });
  const body = h("tbody");
  const heads = COLUMNS.map((c) => h("th", { scope: "col", class: c.words ? "" : "mgw-figure" },
    h("button", { type: "button", title: `${c.about}; click to sort`, onclick: () => sortBy(c.key) }, c.head)));
  const longest = Math.max(...rows.map((r) => r.best), 1e-12);
  const table = h("table", { class: "mgw-table" }, h("caption", { class: "mgw-hidden" }, doc.title), h("thead", {}, h("tr", {}, ...heads)), body);
  const place = h("div", { class: "mgw-scroll" });
  const kinds = [...new Set(rows.map((r) => r.kind))].sort();
  const legend = h("div", { class: "mgw-legend" }, ...kinds.map((k) => h("span", { class: "mgw-mark", "data-kind": k }, KINDS[k] ?? k)),
    h("span", { class: "mgw-note" }, "a large mark took much time; the lines are what caches, memory and arithmetic allow at most"));
  const flat = rows.filter((r) => !r.flops || !moved(r) || !r.best);
  const away = flat.length ? [h("div", { class: "mgw-note" }, `${many(flat.length, "step")} without arithmetic: in the table, and not on the roofline.`)] : [];
  root.append(
    h("div", { class: "mgw-title" }, h("strong", {}, doc.title), " ", h("span", {}, doc.what)),
    h("div", { class: "mgw-bar" }, button("previous step", "▲", "↑", () => go(-1)), button("next step", "▼", "↓", () => go(1)),
      button("order by the next column", "sort", "s", () => nextColumn()), button("other direction", "⇅", "r", () => { reverse = !reverse; sorted(); }),
      h("span", { class: "mgw-note" }, `best of ${many(doc.calls, "call")}: ${quantity(doc.best, "s")}, median ${quantity(doc.median, "s")}, ${quantity(doc.outside, "s")} of it outside of the steps`)),
    status,
    ...(machine ? [place, legend, ...away] : []),
    h("div", { class: "mgw-scroll mgw-rows" }, table),
    ...(machine ? [h("div", { class: "mgw-note" }, `Measured on this machine: ${machine.processor}, ${many(machine.threads, "thread")}; products by ${machine.product}, bytes by ${machine.tool}: ${levels(machine)}.`)] : []),
    ...doc.notes.map((n) => h("div", { class: "mgw-note" }, n)),
  );
  root.tabIndex = 0;
  root.setAttribute("role", "application");
  root.setAttribute("aria-label", `${doc.title}. Up and down arrows go through the steps, S orders them by the next column, R turns the order round.`);

  // ---------------------------------------------------------------------------------------------------------- drawing
  function roof(m: Machine, width: number): SVGElement {
    const shown = rows.filter((r) => r.flops && moved(r) && r.best);
    const f: Frame = { left: 96, top: 30, right: width - 16, bottom: 330 };
    const slowest = m.levels.at(-1)![2];
    const at = [...shown.map(intensity), m.single / slowest];
    const speeds = [...shown.map(speed), m.double];
    const x = scaleLog([Math.min(...at) / 3, Math.max(...at) * 5], [f.left, f.right]);
    const y = scaleLog([Math.min(...speeds) / 3, m.single * 2.5], [f.bottom, f.top]);
    const svg = s("svg", { class: "mgw-chart", width, height: f.bottom + 44, role: "img", "aria-label": `roofline of ${m.processor}` });
    const [x0, x1] = x.domain();
    const [y0] = y.domain();
    svg.append(decades(f, y, true), decades(f, x, false));
    m.levels.forEach(([name, , bandwidth], k) => {
      const [start, knee] = [Math.max(x0, y0 / bandwidth), Math.min(m.single / bandwidth, x1)];
      if (start >= knee) return;
      const [ax, ay, bx, by] = [x(start), y(start * bandwidth), x(knee), y(Math.min(knee * bandwidth, m.single))];
      const steep = (Math.atan2(by - ay, bx - ax) * 180) / Math.PI;
      const [tx, ty] = [ax + (bx - ax) * 0.03 + 6, ay + (by - ay) * 0.03 - 6];
      svg.append(s("line", { class: "mgw-roof", "data-series": k % 6, x1: ax, y1: ay, x2: bx, y2: by }));
      const clear = k === 0 || m.levels[k - 1][2] / bandwidth > 1.6; // else the labels would lie on each other
      if (clear) svg.append(s("text", { class: "mgw-roof-name", x: tx, y: ty, transform: `rotate(${steep} ${tx} ${ty})` }, `${name} ${quantity(bandwidth, "B/s")}`));
    });
    const ceilings: [number, string][] = [[m.single, "float32"], ...(shown.some((r) => r.double) ? [[m.double, "float64"] as [number, string]] : [])];
    ceilings.forEach(([peak, name]) => svg.append(
      s("line", { class: "mgw-roof", "data-series": 0, x1: x(Math.max(x0, peak / m.levels[0][2])), x2: f.right, y1: y(peak), y2: y(peak) }),
      s("text", { class: "mgw-roof-name", x: f.right, y: y(peak) - 6, "text-anchor": "end" }, `${quantity(peak, "FLOP/s")} in ${name}`)));
    points = new Map();
    for (const r of ordered(shown, "best")) {
      const size = 4 + 10 * Math.sqrt(r.share);
      const mark = s("path", { class: "mgw-point", "data-kind": r.kind, "data-row": r.number, d: SHAPES[r.kind] ?? SHAPES.kernel, "vector-effect": "non-scaling-stroke",
        transform: `translate(${x(intensity(r))},${y(speed(r))}) scale(${size})`, onclick: () => choose(r.number), onpointerenter: () => { status.textContent = describe(r); }, onpointerleave: () => show() },
      s("title", {}, r.name));
      points.set(r.number, mark);
      svg.append(mark);
    }
    return svg;
  }

  function decades(f: Frame, scale: { (v: number): number; domain(): number[] }, vertical: boolean): SVGElement {
    const [lo, hi] = scale.domain();
    const g = s("g", { class: "mgw-axis" });
    const all = Array.from({ length: Math.floor(Math.log10(hi)) - Math.ceil(Math.log10(lo)) + 1 }, (_, k) => Math.ceil(Math.log10(lo)) + k);
    const every = vertical ? 1 : Math.max(1, Math.ceil((all.length * 60) / (f.right - f.left)));
    for (const k of all.filter((_, i) => i % every === 0)) {
      const v = 10 ** k;
      const p = scale(v);
      if (vertical) g.append(s("line", { class: "mgw-grid", x1: f.left, x2: f.right, y1: p, y2: p }), s("text", { x: f.left - 6, y: p + 5, "text-anchor": "end" }, quantity(v, "FLOP/s")));
      else g.append(s("line", { class: "mgw-grid", x1: p, x2: p, y1: f.top, y2: f.bottom }), s("text", { x: p, y: f.bottom + 19, "text-anchor": "middle" }, String(Number(v.toPrecision(1)))));
    }
    g.append(vertical ? s("text", { class: "mgw-axis-label", x: f.left, y: f.top - 9 }, "floating-point operations a second")
      : s("text", { class: "mgw-axis-label", x: f.right, y: f.bottom + 38, "text-anchor": "end" }, "floating-point operations for each byte"));
    return g;
  }

  function fill(): void {
    lines = new Map();
    body.replaceChildren(...order.slice(0, SHOWN).map((r) => {
      const cells = COLUMNS.map((c) => {
        if (c.key === "best") {
          return h("td", { class: "mgw-figure mgw-bar-cell" }, h("i", { style: `width:${(100 * r.best) / longest}%` }), h("span", {}, c.text(r)));
        }
        if (c.key === "name") return h("td", { class: "mgw-what", title: r.members.join(", ") }, h("b", {}, r.name), " ", h("span", { class: "mgw-note" }, `${r.result}${r.scope ? ` · ${r.scope}` : ""}`));
        return h("td", { class: c.words ? "" : "mgw-figure" }, c.text(r));
      });
      const line = h("tr", { "data-row": r.number, onclick: () => choose(r.number) }, ...cells);
      lines.set(r.number, line);
      return line;
    }));
    if (order.length > SHOWN) body.append(h("tr", {}, h("td", { colspan: COLUMNS.length, class: "mgw-note" }, `and ${many(order.length - SHOWN, "step")} more; order by another column to see others`)));
  }

  // --------------------------------------------------------------------------------------------------------- choosing
  function describe(r: Row): string {
    const facts = [`${quantity(r.best, "s")}, ${(100 * r.share).toFixed(1)} % of the steps' time`, `${quantity(r.flops, "FLOP")}, ${quantity(moved(r), "B")}`];
    if (machine && r.flops && moved(r)) {
      const { level, by } = limit(machine, r);
      facts.push(`${quantity(speed(r), "FLOP/s")}, ${times(distance(r)) || "0×"} the least time of this machine, where ${by === "bytes" ? `bytes from ${level} limit it` : "arithmetic limits it"}`);
    }
    return `Step ${r.number + 1}, ${r.name}, ${r.kind}${r.scope ? ` in ${r.scope}` : ""}: ${facts.join("; ")}.${r.line ? ` Your line ${r.line}.` : ""}`;
  }
  const selected = (): number => channel.get("selected") as number;

  function show(): void {
    const now = selected();
    for (const [number, line] of lines) line.toggleAttribute("data-selected", number === now);
    for (const [number, mark] of points) mark.toggleAttribute("data-selected", number === now);
    const point = points.get(now);
    point?.parentElement!.append(point);
    const row = rows.find((r) => r.number === now);
    status.textContent = row ? describe(row) : rows.length ? "Choose a step in the table or on the roofline." : "There are no steps: nothing is computed.";
    const box = table.parentElement!;
    const line = lines.get(now);
    if (line) {
      const [a, b] = [line.getBoundingClientRect(), box.getBoundingClientRect()];
      if (a.top < b.top + 40) box.scrollTop -= b.top + 40 - a.top;
      if (a.bottom > b.bottom) box.scrollTop += a.bottom - b.bottom + 4;
    }
  }
  function choose(number: number): void {
    channel.set("selected", number);
    show();
  }
  function go(by: number): void {
    if (!order.length) return;
    const shown = order.slice(0, SHOWN);
    const at = shown.findIndex((r) => r.number === selected());
    choose(shown[at < 0 ? (by > 0 ? 0 : shown.length - 1) : Math.max(0, Math.min(shown.length - 1, at + by))].number);
  }
  function sorted(): void {
    const key = channel.get("sort") as string;
    order = ordered(rows, key, reverse);
    COLUMNS.forEach((c, i) => {
      const up = (c.words || c.key === "number") !== reverse;
      if (c.key === key) heads[i].setAttribute("aria-sort", up ? "ascending" : "descending");
      else heads[i].removeAttribute("aria-sort");
    });
    fill();
    show();
  }
  function sortBy(key: string): void {
    reverse = channel.get("sort") === key ? !reverse : false;
    channel.set("sort", key);
    sorted();
  }
  function nextColumn(): void {
    const at = COLUMNS.findIndex((c) => c.key === channel.get("sort"));
    reverse = false;
    channel.set("sort", COLUMNS[(at + 1) % COLUMNS.length].key);
    sorted();
    status.textContent = `Ordered by ${COLUMNS[(at + 1) % COLUMNS.length].about}.`;
  }

  keys(root, {
    ArrowUp: () => go(-1), ArrowDown: () => go(1), s: nextColumn, r: () => { reverse = !reverse; sorted(); }, Escape: () => choose(-1),
    Home: () => order.length && choose(order[0].number), End: () => order.length && choose(order.slice(0, SHOWN).at(-1)!.number),
  });
  const stop = machine ? whenWide(place, (width) => { place.replaceChildren(roof(machine, Math.max(width, 320))); show(); }) : () => {};
  sorted();
  const off = [channel.on("selected", show), channel.on("sort", sorted)];
  return () => {
    stop();
    off.forEach((call) => call());
  };
}
