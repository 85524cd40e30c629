// Training (see training.py): a chart for each group of metrics, progress, and what was seen of the layers. While it
// runs, messages bring what is new; later, and where there is no kernel, everything is in the document.
import { scaleLinear, scaleLog } from "d3-scale";
import type { Channel } from "./channel";
import { duration, many, SERIES, whenWide, xAxis, yAxis, type Frame, type Scale } from "./chart";
import { button, h, keys, s } from "./dom";
import { histogram } from "./values";

export type Point = [step: number, value: number | null, least?: number, most?: number];
interface Curve { name: string; stride: number; points: Point[]; rest: Point[]; marks: [number, string][]; bad: number; last: [number, number | null] }
type Brief = [least: number | null, most: number | null, rms: number | null, zeros: number, bad: number, bins: number[]];
interface Look { step: number; layers: Partial<Record<"weight" | "gradient" | "activation", Brief>>[] }
interface Progress { what: string; done: number; total: number | null; state: string; seconds: number }
export interface Trained extends Progress {
  kind: "training"; title: string; series: Curve[]; layers: [path: string, kind: string][]; samples: Look[]; notes: string[];
}
interface News extends Progress { series: (Curve & { all: boolean })[]; samples: Look[]; count: number }

const WHAT = ["weight", "gradient", "activation"] as const;

/** What a metric is drawn with: `val_loss` and `train/loss` with `loss`. */
export const together = (name: string): string => name.replace(/^(train|val|valid|validation|test)[_/.](?=.)/, "");

/** The points between gaps. */
export function runs(points: Point[]): Point[][] {
  const found: Point[][] = [[]];
  for (const p of points) {
    if (p[1] === null) found.push([]);
    else found.at(-1)!.push(p);
  }
  return found.filter((r) => r.length);
}

/** What a message changes in the document. */
export function learn(doc: Trained, news: News): void {
  const { what, done, total, state, seconds } = news;
  Object.assign(doc, { what, done, total, state, seconds });
  for (const { all, ...curve } of news.series) {
    const old = doc.series.find((c) => c.name === curve.name);
    if (!old) doc.series.push(curve);
    else Object.assign(old, curve, { points: all ? curve.points : [...old.points, ...curve.points] });
  }
  for (const look of news.samples) {
    if (doc.samples.at(-1)?.step !== look.step) doc.samples.push(look);
  }
}

/** The point of a curve nearest to a step. */
export function nearest(points: Point[], step: number): Point | undefined {
  let best: Point | undefined;
  for (const p of points) if (!best || Math.abs(p[0] - step) < Math.abs(best[0] - step)) best = p;
  return best;
}

const digits = (v: number | null): string => (v === null ? "not finite" : String(Number(v.toPrecision(4))));

export function training(root: HTMLElement, channel: Channel): () => void {
  let doc: Trained = structuredClone(channel.get("document"));
  let cursor: number | null = null; // the step that is read out
  let logarithmic = false;
  let waiting = 0;
  let stops: (() => void)[] = [];

  const what = h("span");
  const state = h("strong", { class: "mgw-state" });
  const bar = h("div", { class: "mgw-progress", role: "progressbar", "aria-label": "steps done", "aria-valuemin": 0 }, h("i"));
  const time = h("span", { class: "mgw-count" });
  const status = h("div", { class: "mgw-status", role: "status", "aria-live": "polite" });
  const charts = h("div", { class: "mgw-curves" });
  const layers = h("div", { class: "mgw-layers" });
  const scaleButton = button("logarithmic scale", "log", "l", () => { logarithmic = !logarithmic; draw(); }, { "aria-pressed": "false" });
  root.append(
    h("div", { class: "mgw-title" }, h("strong", {}, doc.title), " ", what),
    h("div", { class: "mgw-bar" }, state, bar, time),
    h("div", { class: "mgw-bar" }, button("back", "◀", "←", () => move(-1)), button("on", "▶", "→", () => move(1)),
      button("zoom in", "+", "+", () => zoom(0.5)), button("zoom out", "−", "-", () => zoom(2)), button("all steps", "⤢", "0", () => setWindow([])), scaleButton,
      h("span", { class: "mgw-note" }, "drag across a chart to look closer; arrows read values out")),
    status, charts, layers, ...doc.notes.map((n) => h("div", { class: "mgw-note" }, n)),
  );
  root.tabIndex = 0;
  root.setAttribute("role", "application");
  root.setAttribute("aria-label", `${doc.title}. Left and right arrows read the curves out, plus and minus zoom, L changes the scale, page up and down go through the looks at the layers.`);

  // ------------------------------------------------------------------------------------------------------------ range
  const all = (c: Curve): Point[] => [...c.points, ...c.rest];
  function extent(): [number, number] {
    const steps = doc.series.flatMap((c) => { const p = all(c); return p.length ? [p[0][0], p.at(-1)![0]] : []; });
    const lo = Math.min(...steps, ...(steps.length ? [] : [0]));
    return [lo, Math.max(...steps, lo + 1)];
  }
  function range(): [number, number] {
    const chosen = channel.get("window") as number[];
    return chosen.length === 2 ? [chosen[0], chosen[1]] : extent();
  }
  function setWindow(to: number[]): void {
    channel.set("window", to);
    draw();
  }
  function zoom(factor: number): void {
    const [lo, hi] = range();
    const [first, last] = extent();
    const middle = cursor ?? (lo + hi) / 2;
    const wide = (hi - lo) * factor;
    if (wide >= last - first) return setWindow([]);
    if (wide < 2) return;
    const from = Math.max(first, Math.min(last - wide, middle - wide / 2));
    setWindow([from, from + wide]);
  }

  // --------------------------------------------------------------------------------------------------------- drawing
  function chart(place: HTMLElement, name: string, curves: Curve[], width: number): void {
    const f: Frame = { left: 74, top: 28, right: width - 14, bottom: 210 };
    const [lo, hi] = range();
    const points = curves.map((c) => {
      const p = all(c);
      const from = p.findIndex((q) => q[0] >= lo);
      const to = p.findIndex((q) => q[0] > hi);
      return from < 0 ? [] : p.slice(Math.max(0, from - 1), to < 0 ? undefined : to + 1);
    });
    const inside = points.flat().filter((p) => p[0] >= lo && p[0] <= hi && p[1] !== null);
    const values = inside.flatMap((p) => [p[2] ?? p[1]!, p[3] ?? p[1]!]);
    const log = logarithmic && values.some((v) => v > 0);
    const low = values.reduce((a, v) => ((log ? v > 0 : true) && v < a ? v : a), Infinity);
    const high = values.reduce((a, v) => (v > a ? v : a), -Infinity);
    const empty = !(high >= low);
    const pad = high > low ? 0 : Math.abs(high) / 10 || 0.5;
    const domain = empty ? [0, 1] : log ? [low * (high > low ? 1 : 0.5), high * (high > low ? 1 : 2)] : [low - pad, high + pad];
    const x = scaleLinear([lo, hi], [f.left, f.right]);
    const y = (log ? scaleLog : scaleLinear)(domain as [number, number], [f.bottom, f.top]) as Scale & { (v: number): number };
    const svg = s("svg", { class: "mgw-chart", width, height: f.bottom + 44, role: "img", "aria-label": `${name} by step` });
    const id = `${channel.get("name") ?? "training"}-${doc.series.indexOf(curves[0])}`;
    const body = s("g", { "clip-path": `url(#${id})` });
    svg.append(s("clipPath", { id }, s("rect", { x: f.left, y: f.top - 6, width: Math.max(0, f.right - f.left), height: f.bottom - f.top + 12 })),
      yAxis(f, y, (v) => (log && !/^1e|^0?\.?0*1$|^10*$/.test(String(v)) ? "" : String(Number(v.toPrecision(4)))), name, 4),
      xAxis(f, x, (v) => (Number.isInteger(v) ? v.toLocaleString("en") : ""), "step", Math.max(2, Math.floor(width / 110))), body);
    const at = (v: number): number => y(log ? Math.max(v, low) : v);
    curves.forEach((c, k) => {
      const series = k % SERIES;
      for (const run of runs(points[k])) {
        if (run.some((p) => p.length > 2)) {
          const up = run.map((p) => `${x(p[0]).toFixed(1)},${at(p[3] ?? p[1]!).toFixed(1)}`);
          const down = [...run].reverse().map((p) => `${x(p[0]).toFixed(1)},${at(p[2] ?? p[1]!).toFixed(1)}`);
          body.append(s("path", { class: "mgw-band", "data-series": series, d: `M${up.join("L")}L${down.join("L")}Z` }));
        }
        body.append(run.length === 1 ? s("circle", { class: "mgw-dot", "data-series": series, cx: x(run[0][0]), cy: at(run[0][1]!), r: 3 })
          : s("path", { class: "mgw-curve", "data-series": series, d: `M${run.map((p) => `${x(p[0]).toFixed(1)},${at(p[1]!).toFixed(1)}`).join("L")}` }));
      }
      for (const [step, kind] of c.marks) {
        if (step < lo || step > hi) continue;
        body.append(s("g", { class: "mgw-bad-mark" }, s("title", {}, `${c.name} is ${kind === "nan" ? "NaN" : "infinite"} in step ${step}`),
          s("line", { x1: x(step), x2: x(step), y1: f.top, y2: f.bottom }), s("text", { x: x(step), y: f.top + 12, "text-anchor": "middle" }, "×")));
      }
    });
    if (empty) svg.append(s("text", { x: (f.left + f.right) / 2, y: (f.top + f.bottom) / 2, "text-anchor": "middle" }, "nothing finite to draw here"));
    if (cursor !== null && cursor >= lo && cursor <= hi) {
      body.append(s("line", { class: "mgw-here-line", x1: x(cursor), x2: x(cursor), y1: f.top, y2: f.bottom }));
      curves.forEach((c, k) => {
        const p = nearest(all(c), cursor!);
        if (p && p[1] !== null) body.append(s("circle", { class: "mgw-dot", "data-series": k % SERIES, cx: x(p[0]), cy: at(p[1]), r: 4.5 }));
      });
    }
    const stepAt = (event: PointerEvent): number => Math.max(lo, Math.min(hi, x.invert(event.clientX - svg.getBoundingClientRect().left)));
    svg.addEventListener("pointerdown", (event) => { from = stepAt(event as PointerEvent); });
    svg.addEventListener("pointermove", (event) => { read(Math.round(stepAt(event as PointerEvent))); });
    svg.addEventListener("pointerup", (event) => {
      const to = stepAt(event as PointerEvent);
      const start = from;
      from = null;
      if (start !== null && Math.abs(x(to) - x(start)) > 12) setWindow([Math.min(start, to), Math.max(start, to)]);
    });
    const key = curves.length > 1 ? h("div", { class: "mgw-legend" }, ...curves.map((c, k) => {
      return h("span", { class: "mgw-series" }, s("svg", { width: 34, height: 12, class: "mgw-chart" }, s("path", { class: "mgw-curve", "data-series": k % SERIES, d: "M0,6H34" })) as unknown as Node, ` ${c.name}`);
    })) : null;
    place.replaceChildren(svg, ...(key ? [key] : []));
  }
  let from: number | null = null;

  function draw(): void {
    waiting = 0;
    for (const stop of stops) stop();
    stops = [];
    scaleButton.setAttribute("aria-pressed", String(logarithmic));
    const groups = new Map<string, Curve[]>();
    for (const c of doc.series) groups.set(together(c.name), [...(groups.get(together(c.name)) ?? []), c]);
    while (charts.children.length > groups.size) charts.lastElementChild!.remove();
    while (charts.children.length < groups.size) charts.append(h("div", { class: "mgw-curve-place" }));
    [...groups].forEach(([name, curves], i) => {
      const place = charts.children[i] as HTMLElement;
      stops.push(whenWide(place, (width) => chart(place, name, curves, width)));
    });
    progress();
    say();
  }

  function progress(): void {
    what.textContent = doc.what;
    const running = doc.state === "running";
    const [first] = doc.state.split(":");
    state.textContent = { running: "▶ running", ended: "✓ ended", interrupted: "■ interrupted", failed: "✗ failed" }[first] ?? doc.state;
    state.dataset.state = first;
    const share = doc.total ? Math.min(1, doc.done / doc.total) : running ? 0 : 1;
    (bar.firstElementChild as HTMLElement).style.width = `${100 * share}%`;
    bar.toggleAttribute("hidden", !doc.total);
    if (doc.total) {
      bar.setAttribute("aria-valuemax", String(doc.total));
      bar.setAttribute("aria-valuenow", String(doc.done));
    }
    const left = doc.total && doc.done ? (doc.seconds * (doc.total - doc.done)) / doc.done : null;
    const spent = duration(doc.seconds);
    time.textContent = running && left !== null ? `${Math.floor(100 * share)} %, ${spent} gone, ${duration(left)} left` : `${doc.total ? `${Math.floor(100 * share)} % in ` : ""}${spent}`;
  }

  /** What the curves are at the cursor, or what they are now. Nobody wants ten announcements a second: none while it runs. */
  function say(): void {
    const bad = doc.series.filter((c) => c.bad);
    const warning = bad.length ? ` Not finite: ${bad.map((c) => `${c.name} ${many(c.bad, "time")}, first in step ${c.marks[0][0]}`).join("; ")}.` : "";
    if (cursor !== null) {
      const read = doc.series.map((c) => {
        const p = nearest(all(c), cursor!);
        if (!p) return "";
        return `${c.name} ${digits(p[1])}${p.length > 2 ? ` (mean of ${c.stride}, from ${digits(p[2]!)} to ${digits(p[3]!)})` : ""}`;
      });
      status.textContent = `Step ${cursor.toLocaleString("en")}: ${read.filter(Boolean).join(", ")}.`;
    } else if (doc.state === "running") status.textContent = warning.trim();
    else status.textContent = `Training ${doc.state}: ${doc.what}${warning}`;
    status.classList.toggle("mgw-bad", bad.length > 0 || doc.state.startsWith("failed"));
  }

  // ----------------------------------------------------------------------------------------------------------- layers
  const slider = h("input", { type: "range", min: 0, "aria-label": "which look at the layers", oninput: () => { channel.set("sample", Number(slider.value)); drawLayers(); } });
  const label = h("span", { class: "mgw-count" });
  const flow = h("div", { class: "mgw-scroll" });
  const grid = h("div", { class: "mgw-scroll" });
  const look = (): number => {
    const n = channel.get("sample") as number;
    return n < 0 ? doc.samples.length - 1 : Math.min(n, doc.samples.length - 1);
  };
  function drawLayers(): void {
    if (!doc.layers.length || !doc.samples.length) return;
    if (!layers.children.length) {
      layers.append(h("h4", {}, "Layers ", h("span", { class: "mgw-note" }, "root mean square of the gradient, from input to output; then histograms")),
        h("div", { class: "mgw-bar mgw-looks" }, slider, label), flow, grid);
    }
    const now = look();
    const shown = doc.samples[now];
    slider.max = String(doc.samples.length - 1);
    slider.value = String(now);
    label.textContent = `step ${shown.step.toLocaleString("en")} (${now + 1} of ${doc.samples.length})`;
    flow.replaceChildren(gradientFlow(shown, Math.max(flow.clientWidth || 800, 300)));
    const head = h("tr", {}, h("th", { scope: "col" }, "layer"), ...WHAT.map((w) => h("th", { scope: "col" }, w)));
    grid.replaceChildren(h("table", { class: "mgw-table" }, h("thead", {}, head), h("tbody", {}, ...doc.layers.map(([path, kind], i) =>
      h("tr", {}, h("th", { scope: "row" }, path, " ", h("span", { class: "mgw-note" }, kind)), ...WHAT.map((w) => h("td", {}, cell(shown.layers[i]?.[w]))))))));
  }
  function cell(b: Brief | undefined): Node {
    if (!b) return h("span", { class: "mgw-note" }, "–");
    const [least, most, rms, zeros, bad, bins] = b;
    const facts = [`${digits(least)} to ${digits(most)}`, `rms ${digits(rms)}`];
    if (zeros > 0.005) facts.push(`${Math.round(100 * zeros)} % zero`);
    if (bad) facts.push(`${bad} not finite`);
    return h("div", { class: bad ? "mgw-brief mgw-error" : "mgw-brief" }, bins.length ? (histogram(bins, 120, 30) as unknown as Node) : null, h("span", {}, facts.join(" · ")));
  }
  function gradientFlow(shown: Look, width: number): SVGElement {
    const sizes = doc.layers.map((_, i) => shown.layers[i]?.gradient?.[2] ?? null);
    const every = doc.samples.flatMap((l) => l.layers.map((b) => b.gradient?.[2] ?? 0)).filter((v) => v > 0);
    const f: Frame = { left: 74, top: 28, right: width - 14, bottom: 150 };
    const svg = s("svg", { class: "mgw-chart", width, height: f.bottom + 34, role: "img", "aria-label": "size of the gradient by layer" });
    if (!every.length) return s("svg", { class: "mgw-chart", width, height: 24 }, s("text", { x: 0, y: 16 }, "No gradient has been seen: log after backward, before zero_grad."));
    const y = scaleLog([Math.min(...every) / 2, Math.max(...every) * 2], [f.bottom, f.top]);
    const step = (f.right - f.left) / sizes.length;
    svg.append(yAxis(f, y, (v) => (/^1(e.*|0*)$|^0\.0*1$/.test(String(v)) ? v.toExponential(0) : ""), "gradient, rms", 3));
    sizes.forEach((v, i) => {
      const middle = f.left + step * (i + 0.5);
      if (v) svg.append(s("rect", { class: "mgw-flow", x: middle - Math.min(step * 0.35, 30), y: y(v), width: Math.min(step * 0.7, 60), height: Math.max(f.bottom - y(v), 1) }, s("title", {}, `${doc.layers[i][0]}: ${digits(v)}`)));
      if (step > 46) svg.append(s("text", { x: middle, y: f.bottom + 18, "text-anchor": "middle" }, doc.layers[i][0].slice(0, Math.floor(step / 8))));
    });
    return svg;
  }

  // --------------------------------------------------------------------------------------------------------- choosing
  function read(step: number): void {
    cursor = step;
    draw();
  }
  function move(by: number): void {
    const [lo, hi] = range();
    const steps = [...new Set(doc.series.flatMap((c) => all(c).map((p) => p[0])))].filter((k) => k >= lo && k <= hi).sort((a, b) => a - b);
    if (!steps.length) return;
    const jump = Math.max(1, Math.round(steps.length / 100));
    const found = cursor === null ? -1 : steps.findIndex((k) => k >= cursor!);
    const next = cursor === null ? (by > 0 ? 0 : steps.length - 1) : (found < 0 ? steps.length - 1 : found) + by * jump;
    read(steps[Math.max(0, Math.min(steps.length - 1, next))]);
  }
  function turn(by: number): void {
    if (!doc.samples.length) return;
    channel.set("sample", Math.max(0, Math.min(doc.samples.length - 1, look() + by)));
    drawLayers();
    status.textContent = `Layers as seen in step ${doc.samples[look()].step}, ${look() + 1} of ${doc.samples.length}.`;
  }
  keys(root, {
    ArrowLeft: () => move(-1), ArrowRight: () => move(1), Home: () => read(range()[0]), End: () => read(range()[1]), Escape: () => { cursor = null; draw(); },
    "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), "0": () => setWindow([]), l: () => scaleButton.click(),
    PageUp: () => turn(-1), PageDown: () => turn(1),
  });
  root.addEventListener("pointerleave", () => { cursor = null; draw(); });
  const off = [
    channel.on("document", () => { doc = structuredClone(channel.get("document")); draw(); drawLayers(); }),
    channel.on("sample", drawLayers),
    channel.onMessage?.((message: News) => {
      if (!message.series) return;
      const looks = doc.samples.length;
      learn(doc, message);
      if (!waiting) waiting = requestAnimationFrame(draw);
      if (doc.samples.length !== looks) drawLayers();
    }) ?? (() => {}),
  ];
  draw();
  drawLayers();
  return () => {
    off.forEach((call) => call());
    stops.forEach((call) => call());
    cancelAnimationFrame(waiting);
  };
}
