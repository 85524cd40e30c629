// The memory timeline (see memory.py): values as rectangles, steps from left to right, addresses from bottom to top, and
// below it the bytes that are alive. One chart for each way to use memory, one at a time or all of them on one scale.
import { scaleLinear } from "d3-scale";
import type { Channel } from "./channel";
import { bytes, choice, fitting, inBytes, many, whenWide, xAxis, yAxis, type Frame } from "./chart";
import { button, h, keys, s } from "./dom";

type Life = [name: number, type: number, nbytes: number, start: number, end: number, at: number, place: number, over: number, again: number, stays: number];
interface Variant {
  name: string;
  what: string;
  arena: number;
  peak: number;
  top: number;
  bound: number;
  curve: number[];
  steps: [name: number, scope: number, line: number][];
  lives: Life[];
}
export interface Timeline { kind: "memory"; title: string; what: string; variants: Variant[]; notes: string[]; texts: string[] }

const PLACES = ["in the arena", "in the memory of a result or variable", "in memory of its own", "a value", "a gradient"];
const KINDS = ["arena", "result", "own", "value", "gradient"];
const NAMED = 26; // pixels of a step from which on its name stands below it

/** The values alive at a step, from the lowest address to the highest. */
export function alive(v: Variant, step: number): number[] {
  return v.lives.flatMap((b, i) => (b[3] <= step && step <= b[4] ? [i] : [])).sort((i, k) => v.lives[i][5] - v.lives[k][5] || i - k);
}

/** What used the bytes of a value before it, the latest of them: it ended where this one starts, or was written over. */
export function before(v: Variant, life: number): number {
  const [, , size, start, , at, place, over] = v.lives[life];
  if (over >= 0) return over;
  let found = -1;
  v.lives.forEach((b, i) => {
    const meets = b[6] === place && b[5] < at + size && at < b[5] + b[2] && b[4] < start;
    if (meets && (found < 0 || b[4] > v.lives[found][4])) found = i;
  });
  return found;
}

export function memory(root: HTMLElement, channel: Channel): () => void {
  const doc: Timeline = channel.get("document");
  const { variants, texts } = doc;
  let chosen = -1; // the value that is chosen
  let together = false;
  let zoom = 1;
  let stops: (() => void)[] = [];
  let redraw: (() => void)[] = [];

  const status = h("div", { class: "mgw-status", role: "status", "aria-live": "polite" });
  const main = h("div", { class: "mgw-charts" });
  const most = Math.max(...variants.map((v) => v.peak), 1);
  const tabs = choice("ways to use memory", variants.map((v) => h("span", { class: "mgw-variant" }, h("strong", {}, v.name), h("span", {}, `peak ${bytes(v.peak)}`),
    h("i", { style: `width:${(100 * v.peak) / most}%` }))), (i) => { together = false; pickVariant(i); });
  const legend = h("div", { class: "mgw-legend" });
  const both = button("all beside each other, on one scale", "side by side", "b", () => { together = !together; build(); }, { "aria-pressed": "false" });
  root.append(
    h("div", { class: "mgw-title" }, h("strong", {}, doc.title), " ", h("span", {}, doc.what)),
    h("div", { class: "mgw-bar" }, tabs.element, variants.length > 1 && both, h("span", { class: "mgw-space" }),
      button("one step back", "◀", "←", () => go(-1)), button("one step on", "▶", "→", () => go(1)),
      button("the step of the peak", "peak", "p", () => goTo(peakOf(variant()))),
      button("zoom in", "+", "+", () => scale(1.5)), button("zoom out", "−", "-", () => scale(1 / 1.5)), button("everything", "⤢", "0", () => scale(0))),
    status, main, legend,
    ...doc.notes.map((n) => h("div", { class: "mgw-note" }, n)),
  );
  root.tabIndex = 0;
  root.setAttribute("role", "application");
  root.setAttribute("aria-label", `${doc.title}. Left and right arrows go from step to step, up and down through the values alive there, V changes the way to use memory.`);

  // ---------------------------------------------------------------------------------------------------------- what is
  const number = (): number => Math.max(0, Math.min(variants.length - 1, channel.get("variant") as number));
  const variant = (): Variant => variants[number()];
  const step = (): number => Math.max(0, Math.min(variant().steps.length - 1, channel.get("step") as number));
  const peakOf = (v: Variant): number => Math.max(0, v.curve.indexOf(v.bound));
  const stepName = (v: Variant, k: number): string => {
    const [name, scope] = v.steps[k] ?? [-1, -1];
    return `${texts[name] ?? ""}${texts[scope] ? ` in ${texts[scope]}` : ""}`;
  };

  function describeStep(): string {
    const v = variant();
    if (!v.steps.length) return "There are no steps: nothing is computed.";
    const k = step();
    const line = texts[v.steps[k][2]];
    const now = k === peakOf(v) ? ", the most at any step" : "";
    return `${v.name}, step ${k + 1} of ${v.steps.length}, ${stepName(v, k)}: ${bytes(v.curve[k])} alive in ${many(alive(v, k).length, "value")}${now}.${line ? ` Your line ${line}.` : ""}`;
  }

  function describeLife(): string {
    const v = variant();
    const [name, type, size, start, end, at, place, over, again, stays] = v.lives[chosen];
    const where = place === 0 ? `bytes ${at.toLocaleString("en")} to ${(at + size).toLocaleString("en")} of the arena` : PLACES[place];
    const old = before(v, chosen);
    const used = over >= 0 ? `; written in place of ${texts[v.lives[over][0]]}` : old >= 0 && place === 0 ? `; the place of ${texts[v.lives[old][0]]} before` : "";
    const last = stays ? "; it stays when the run ends" : "";
    const first = start === end ? `alive in step ${start + 1} only` : `alive from step ${start + 1}, ${stepName(v, start)}, to step ${end + 1}, ${stepName(v, end)}`;
    return `${texts[name]}, ${texts[type]}, ${bytes(size)}: ${first}; ${where}${used}${again ? "; computed a second time" : ""}${last}.`;
  }

  // ---------------------------------------------------------------------------------------------------------- drawing
  function chart(place: HTMLElement, v: Variant, width: number, top: number, curveTop: number): { svg: SVGElement; mark: () => void } {
    const count = Math.max(v.steps.length, 1);
    const left = 82;
    const inner = Math.max((width - left - 12) * (together ? 1 : zoom), 60);
    const named = inner / count >= NAMED;
    const f: Frame = { left, top: 26, right: left + inner, bottom: together ? 250 : 330 };
    const below: Frame = { ...f, top: f.bottom + (named ? 96 : 34), bottom: f.bottom + (named ? 176 : 114) };
    const x = scaleLinear([0, count], [f.left, f.right]);
    const y = inBytes(scaleLinear([0, top], [f.bottom, f.top]));
    const up = inBytes(scaleLinear([0, curveTop], [below.bottom, below.top]));
    const svg = s("svg", { class: "mgw-chart", width: f.right + 12, height: below.bottom + 44, role: "img", "aria-label": `${v.name}: ${v.what}` });
    svg.append(yAxis(f, y, bytes, "address", 4));
    const written = new Set(v.lives.map((b) => b[7]));
    const rects = v.lives.map((b, i) => {
      const [name, , size, start, end, at, where, over, again, stays] = b;
      const x0 = x(start + (over >= 0 ? 0.5 : 0));
      const x1 = x(end + (written.has(i) ? 0.5 : 1));
      const high = Math.max(y(at) - y(at + size), 1.5);
      const y0 = y(at + size);
      const g = s("g", {
        class: "mgw-life", "data-place": KINDS[where], "data-over": over >= 0, "data-again": again === 1, "data-life": i, onclick: () => choose(v, i),
      }, s("rect", { x: x0, y: y0, width: Math.max(x1 - x0, 1.5), height: high }, s("title", {}, `${texts[name]}, ${bytes(size)}`)));
      if (stays && end < count - 1) g.append(s("line", { class: "mgw-stays", x1: x1, x2: f.right, y1: y0 + high / 2, y2: y0 + high / 2 }));
      if (high >= 17) {
        const label = fitting(`${over >= 0 ? "↺ " : again ? "↻ " : ""}${texts[name]}`, x1 - x0 - 8);
        if (label) g.append(s("text", { x: x0 + 4, y: y0 + high / 2 + 5 }, label));
      }
      return g;
    });
    const layer = s("g", {}, ...rects);
    svg.append(layer);
    if (v.arena && v.top > v.arena) {
      svg.append(s("line", { class: "mgw-arena", x1: f.left, x2: f.right, y1: y(v.arena), y2: y(v.arena) }),
        s("text", { class: "mgw-arena-label", x: f.right - 4, y: y(v.arena) - 5, "text-anchor": "end" }, `↑ outside of the arena of ${bytes(v.arena)}`));
    }
    if (named) {
      v.steps.forEach(([name], k) => {
        const at = x(k + 0.5);
        svg.append(s("text", { class: "mgw-step-name", x: at, y: f.bottom + 16, "text-anchor": "end", transform: `rotate(-38 ${at} ${f.bottom + 16})` }, fitting(texts[name], 98)));
      });
    }
    // the curve
    const outline = v.curve.map((n, i) => `L${x(i)},${up(n)}H${x(i + 1)}`).join("");
    svg.append(yAxis(below, up, bytes, "bytes alive", 2), s("path", { class: "mgw-alive", d: `M${x(0)},${up(0)}${outline}V${up(0)}Z` }));
    const peak = peakOf(v);
    const anchor = x(peak) > (f.left + f.right) / 2 ? "end" : "start";
    svg.append(
      s("line", { class: "mgw-bound", x1: f.left, x2: f.right, y1: up(v.bound), y2: up(v.bound) }),
      s("path", { class: "mgw-peak", d: `M${x(peak + 0.5)},${up(v.bound)}l-6,-9h12z` }),
      s("text", { class: "mgw-peak-label", x: x(peak + 0.5) + (anchor === "end" ? -10 : 10), y: up(v.bound) - 5, "text-anchor": anchor }, `most alive: ${bytes(v.bound)}, in step ${peak + 1}`),
      xAxis(below, x, (t) => (Number.isInteger(t) ? String(t) : ""), "steps done", Math.min(count, Math.floor(inner / 60))),
    );
    const cursor = s("rect", { class: "mgw-cursor", y: f.top, height: below.bottom - f.top, width: Math.max(x(1) - x(0), 2) });
    svg.insertBefore(cursor, svg.firstChild);
    svg.addEventListener("pointermove", (event) => {
      const k = Math.floor(x.invert((event as PointerEvent).clientX - svg.getBoundingClientRect().left));
      if (k < 0 || k >= v.steps.length || v !== variant()) return;
      const over = (event.target as Element).closest<SVGElement>("[data-life]");
      say(over ? describeOther(v, Number(over.dataset.life)) : "");
      if (k !== step()) channel.set("step", k);
    });
    const mark = (): void => {
      cursor.setAttribute("x", String(x(Math.min(step(), count - 1))));
      const shown = v === variant();
      rects.forEach((g, i) => g.toggleAttribute("data-selected", shown && i === chosen));
      if (shown && chosen >= 0) layer.append(rects[chosen]); // drawn last, so nothing covers its edge
      const at = x(step());
      if (place.scrollWidth > place.clientWidth && (at < place.scrollLeft + left || at > place.scrollLeft + place.clientWidth - 40)) place.scrollLeft = at - place.clientWidth / 2;
    };
    return { svg, mark };
  }

  let hovered = "";
  const say = (text: string): void => {
    hovered = text;
    show();
  };
  const describeOther = (v: Variant, life: number): string => {
    const [name, type, size] = v.lives[life];
    return `${texts[name]}, ${texts[type]}, ${bytes(size)}. `;
  };

  function build(): void {
    for (const stop of stops) stop();
    [stops, redraw] = [[], []];
    both.setAttribute("aria-pressed", String(together));
    const shown = together ? variants : [variant()];
    const top = Math.max(...(together ? variants : [variant()]).map((v) => v.top), 1);
    const curveTop = Math.max(...shown.map((v) => v.bound), 1);
    main.toggleAttribute("data-together", together);
    const places = shown.map((v) => {
      const place = h("div", { class: "mgw-scroll" });
      main.append(h("section", {}, h("h4", {}, v.name, " ", h("span", { class: "mgw-note" }, v.what)), place));
      return { v, place };
    });
    main.replaceChildren(...places.map((p) => p.place.parentElement!));
    for (const { v, place } of places) {
      let mark = (): void => {};
      stops.push(whenWide(place, (width) => {
        const drawn = chart(place, v, width, top, curveTop);
        place.replaceChildren(drawn.svg);
        mark = drawn.mark;
        mark();
      }));
      redraw.push(() => mark());
    }
    const lives = shown.flatMap((v) => v.lives);
    const signs: [boolean, string, string, string][] = [
      ...PLACES.map((text, k): [boolean, string, string, string] => [lives.some((b) => b[6] === k), KINDS[k], "", text]),
      [lives.some((b) => b[7] >= 0), "over", "↺", "written over a value that ends there"], [lives.some((b) => b[8] === 1), "again", "↻", "computed a second time"],
    ];
    legend.replaceChildren(...signs.filter(([there]) => there).map(([, kind, sign, text]) => h("span", { class: "mgw-key", "data-key": kind }, h("i", {}, sign), ` ${text}`)));
    show();
  }

  function show(): void {
    tabs.set(together ? -1 : number());
    root.dataset.step = String(step());
    redraw.forEach((call) => call());
    status.textContent = chosen >= 0 ? describeLife() : hovered + describeStep();
  }

  // --------------------------------------------------------------------------------------------------------- choosing
  function pickVariant(i: number): void {
    chosen = -1;
    const [steps, at] = [variant().steps.length, step()];
    channel.set("variant", i);
    if (variant().steps.length !== steps) channel.set("step", Math.min(at, variant().steps.length - 1));
    build();
  }
  function goTo(k: number): void {
    [chosen, hovered] = [-1, ""];
    channel.set("step", Math.max(0, Math.min(variant().steps.length - 1, k)));
    show();
  }
  const go = (by: number): void => goTo(step() + by);
  function choose(v: Variant, life: number): void {
    if (v !== variant()) channel.set("variant", variants.indexOf(v));
    chosen = life;
    if (life >= 0) {
      const [name, , , start, end] = v.lives[life];
      if (step() < start || step() > end) channel.set("step", start);
      channel.set("selected", texts[name]);
    } else channel.set("selected", "");
    show();
  }
  function through(by: number): void {
    const v = variant();
    const here = alive(v, step());
    if (!here.length) return;
    const at = here.indexOf(chosen);
    choose(v, here[at < 0 ? (by > 0 ? 0 : here.length - 1) : (at + by + here.length) % here.length]);
  }
  function scale(factor: number): void {
    zoom = factor ? Math.max(1, Math.min(zoom * factor, 400)) : 1;
    build();
  }

  keys(root, {
    ArrowLeft: () => go(-1), ArrowRight: () => go(1), ArrowUp: () => through(1), ArrowDown: () => through(-1),
    Home: () => goTo(0), End: () => goTo(variant().steps.length - 1), p: () => goTo(peakOf(variant())), Escape: () => choose(variant(), -1),
    v: () => pickVariant((number() + 1) % variants.length), b: () => both.click(),
    "+": () => scale(1.5), "=": () => scale(1.5), "-": () => scale(1 / 1.5), "0": () => scale(0),
  });
  const off = [channel.on("step", show), channel.on("variant", () => { if (!together) build(); })];
  build();
  return () => {
    off.forEach((call) => call());
    stops.forEach((call) => call());
  };
}
