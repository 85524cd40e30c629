// The graph explorer: opens, searches, colours and tells (see explorer.py). Only what is open is laid out and drawn.
import { select } from "d3-selection";
import { zoom, zoomIdentity, type D3ZoomEvent } from "d3-zoom";
import { arrange, line, type Arranged, type Link } from "./arrange";
import type { Channel } from "./channel";
import { button, calm, h, keys, math, s, type Child } from "./dom";
import { head } from "./graph";
import { Tree, key, unpacked, type Fact, type GraphData, type Group, type Packed } from "./tree";
import { details, type Summary } from "./values";

interface Document { graphs: (Omit<GraphData, "nodes"> & { nodes: Packed[] })[]; keys: string[][]; texts: string[]; values: Summary[]; error: string; notes: string[] }
type Item = number | Group;

const AT_FIRST = 36; // boxes that are visible when a graph opens
const FOUND = 12; // search results that are listed
const PALETTE = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#7a7a7a"]; // Okabe and Ito
const QUANTITIES: Record<string, [name: string, unit: string]> = {
  bytes: ["bytes of results", "B"], flops: ["FLOPs", ""], norm: ["gradient norm", ""], seconds: ["time", "s"],
};
const WAYS = { none: "nothing", both: "both ways", up: "upstream", down: "downstream" };

/** 1536 as 1.54 k; with bytes, 1.5 KiB. */
export function short(value: number, unit: string): string {
  if (unit === "B") {
    const power = value < 1024 ? 0 : Math.min(4, Math.floor(Math.log2(value) / 10));
    return `${+(value / 1024 ** power).toPrecision(3)} ${["B", "KiB", "MiB", "GiB", "TiB"][power]}`;
  }
  if (!value) return `0 ${unit}`.trim();
  const power = Math.max(-4, Math.min(4, Math.floor(Math.log10(Math.abs(value)) / 3)));
  if (!unit && power < 0) return `${+value.toPrecision(3)}`;
  return `${+(value / 1000 ** power).toPrecision(3)} ${["p", "n", "µ", "m", "", "k", "M", "G", "T"][power + 4]}${unit}`.trim();
}

const context = typeof document === "undefined" ? null : document.createElement("canvas").getContext?.("2d");
/** Width of a text in the drawing, in pixels; guessed where nothing can be measured. */
function wide(text: string, size: number, bold = false): number {
  if (!context) return text.length * size * 0.58;
  context.font = `${bold ? "600 " : ""}${size}px system-ui, sans-serif`;
  return context.measureText(text).width;
}
const cut = (text: string, most = 34) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

export function explorer(root: HTMLElement, channel: Channel): () => void {
  const doc: Document = channel.get("document");
  const texts = doc.texts;
  const graphs: GraphData[] = doc.graphs.map((g) => ({ ...g, nodes: g.nodes.map((n) => unpacked(doc.keys, n)) }));
  const trees = graphs.map((g) => new Tree(g));
  const opens = trees.map((t) => t.opened(AT_FIRST));
  let at = 0; // the graph that is shown
  let way: { graph: number; node: number }[] = []; // the nodes whose nested graphs lead there
  let arranged: Arranged;
  let boxes = new Map<string, SVGGElement>();
  let links: [SVGGElement, Link][] = [];
  let chosen: Item | null = null;
  let found: number[] = [];

  const tree = () => trees[at];
  const open = () => opens[at];
  const fact = (n: number): Fact => tree().graph.nodes[n];
  const pathOf = (item: Item) => (typeof item === "number" ? texts[fact(item).path] : item.path);
  const title = (item: Item) => {
    if (typeof item === "number") return fact(item).name === undefined ? texts[fact(item).op] : texts[fact(item).name!];
    return item.times > 1 ? `${item.times} × ${item.name}` : item.name;
  };
  const many = (n: number, word: string) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;

  // --------------------------------------------------------------------------------------------------------- colours
  const colouring = () => (channel.get("colour") as string) || "kind";
  /** What a box is worth in a quantity: the sum of its members, or the largest norm. */
  function quantity(item: Item, name: string): number | undefined {
    const all = tree().members(item).map((n) => fact(n)[name as keyof Fact] as number | undefined).filter((v) => v !== undefined);
    if (!all.length) return undefined;
    return name === "norm" ? Math.max(...(all as number[])) : (all as number[]).reduce((a, b) => a + b, 0);
  }
  function category(item: Item, name: string): string {
    const of = (n: number): string => {
      if (name === "scope") return (fact(n).scope === undefined ? "" : texts[fact(n).scope!]).split(".").slice(0, 2).join(".") || "no module";
      const v = fact(n)[name as "dtype" | "device"];
      return v === undefined ? "several" : texts[v];
    };
    const all = new Set(tree().members(item).map(of));
    return all.size === 1 ? [...all][0] : "several";
  }
  const categories = new Map<string, string>();
  const colourOf = (word: string): string => {
    if (!categories.has(word)) categories.set(word, word === "several" ? "#7a7a7a" : PALETTE[categories.size % 7]);
    return categories.get(word)!;
  };

  // ---------------------------------------------------------------------------------------------------------- pieces
  const status = h("div", { class: "mgw-status", role: "status", "aria-live": "polite" });
  const canvas = h("div", { class: "mgw-canvas mgw-stage", role: "group", "aria-label": "graph" });
  const panel = h("div", { class: "mgw-panel" });
  const crumbs = h("nav", { class: "mgw-crumbs", "aria-label": "nested graphs" });
  const legend = h("div", { class: "mgw-legend" });
  const results = h("div", { class: "mgw-results", role: "listbox", "aria-label": "search results" });
  const search = h("input", { type: "search", placeholder: "search  ( / )", "aria-label": "search nodes and modules", title: "operation, name, module or shape; Enter goes to the next" });
  const has = (name: string) => graphs.some((g) => g.nodes.some((n) => n[name as keyof Fact] !== undefined));
  const choices = ["kind", "scope", "dtype", "device", ...Object.keys(QUANTITIES)].filter((c) => c === "kind" || has(c));
  const picker = h("select", { "aria-label": "colour by", onchange: () => channel.set("colour", picker.value) },
    ...choices.map((c) => h("option", { value: c }, `colour by ${QUANTITIES[c]?.[0] ?? (c === "scope" ? "module" : c)}`)));
  const flow = h("select", { "aria-label": "highlight what is connected", onchange: () => mark() },
    ...Object.entries(WAYS).map(([v, words]) => h("option", { value: v, selected: v === "both" }, `highlight ${words}`)));
  root.append(
    h("div", { class: "mgw-bar" }, search, picker, flow, h("span", { class: "mgw-space" }),
      button("open one level more", "unfold", "o", () => unfold()), button("fold everything", "fold", "f", () => fold()),
      button("smaller", "−", "-", () => zoomed(1 / 1.3)), button("larger", "+", "+", () => zoomed(1.3)), button("fit into the frame", "fit", "0", () => fit())),
    results, crumbs, legend, h("div", { class: "mgw-main" }, canvas, panel), status);
  for (const note of [doc.error && `${doc.error}  (the graph goes as far as the run did)`, ...doc.notes]) {
    if (note) legend.before(h("div", { class: note === doc.notes.find((n) => n === note) ? "mgw-note" : "mgw-error" }, note));
  }

  // --------------------------------------------------------------------------------------------------------- drawing
  const lines = (item: Item): [string, string] => {
    const name = colouring();
    const about = (): string => {
      if (name in QUANTITIES) {
        const v = quantity(item, name);
        return v === undefined ? "" : short(v, QUANTITIES[name][1]);
      }
      if (typeof item !== "number") return many(item.operations, "operation");
      return cut(texts[fact(item).type], 30);
    };
    return [cut(title(item)), about()];
  };
  const size = (item: Item) => {
    const [name, about] = lines(item);
    return { width: Math.max(54, wide(name, 14, true) + 26 + (typeof item === "number" ? 0 : 16), wide(about, 12) + 22), height: about ? 44 : 30 };
  };

  const stage = s("g", {});
  const svg = s("svg", { class: "mgw-explorer-svg", tabindex: -1 }, stage);
  canvas.append(svg);
  let transform = zoomIdentity;
  const room = () => ({ width: canvas.clientWidth || 700, height: canvas.clientHeight || 480 });
  const behaviour = zoom<SVGSVGElement, unknown>().scaleExtent([0.05, 4])
    .extent(() => [[0, 0], [room().width, room().height]])
    .filter((event: MouseEvent) => (event.type === "wheel" ? event.ctrlKey || event.metaKey : !event.button))
    .on("zoom", (event: D3ZoomEvent<SVGSVGElement, unknown>) => {
      transform = event.transform;
      stage.setAttribute("transform", String(transform));
    });
  const view = select(svg as SVGSVGElement);
  view.call(behaviour).on("dblclick.zoom", null);
  const zoomed = (factor: number) => void view.call(behaviour.scaleBy, factor);

  /** The whole drawing, as long as it can be read; else its beginning. */
  function fit(): void {
    const { width, height } = room();
    const whole = Math.min(1.15, width / arranged.width, height / arranged.height);
    const k = Math.max(whole, Math.min(0.62, width / arranged.width));
    const x = (width - arranged.width * k) / 2;
    view.call(behaviour.transform, zoomIdentity.translate(x, Math.max((height - arranged.height * k) / 2, 4)).scale(k));
  }
  /** Brings a box into sight, and nothing else. */
  function reveal(item: Item): void {
    const box = [...arranged.boxes, ...arranged.frames].find((b) => b.item === item);
    if (!box) return;
    const { width, height } = room();
    const [x, y] = transform.apply([box.x, box.y]);
    const [x1, y1] = transform.apply([box.x + box.width, box.y + box.height]);
    const by = (lo: number, hi: number, end: number) => (lo < 10 ? Math.min(10 - lo, Math.max(0, end - 10 - lo)) : hi > end - 10 ? Math.max(end - 10 - hi, 10 - lo) : 0);
    const [dx, dy] = [by(x, x1, width), by(y, y1, height)];
    if (dx || dy) view.call(behaviour.translateBy, dx / transform.k, dy / transform.k);
  }

  function box(item: Item, x: number, y: number, width: number, height: number): SVGGElement {
    const node = typeof item === "number" ? fact(item) : null;
    const [name, about] = lines(item);
    const kind = node ? (node.nested ? "nested" : node.kind) : "group";
    const round = kind === "variable" || kind === "input" ? 14 : 5;
    const hint = node ? pathOf(item) : `${pathOf(item)}  ${(item as Group).kind}: Enter or double click opens it`;
    const words = `${title(item)}, ${node ? texts[node.type] : `${(item as Group).kind}, folded`}${about ? `, ${about}` : ""}`;
    const g = s("g", { class: "mgw-node", "data-kind": kind, "data-key": key(item), transform: `translate(${x.toFixed(1)},${y.toFixed(1)})`, tabindex: -1, role: "button", "aria-label": words },
      s("title", {}, hint),
      !node && s("rect", { class: "mgw-under", x: 4, y: 4, width, height, rx: 5 }),
      s("rect", { class: "mgw-paper", width, height, rx: round }), s("rect", { class: "mgw-fill", width, height, rx: round }),
      s("text", { class: "mgw-name", x: node ? width / 2 : (width - 14) / 2, y: about ? 19 : 20 }, name),
      about && s("text", { class: "mgw-about-line", x: width / 2, y: 36 }, about),
      !node && s("text", { class: "mgw-plus", x: width - 13, y: 20 }, "+"));
    g.addEventListener("click", () => choose(item));
    g.addEventListener("dblclick", () => enter(item));
    return g;
  }

  function draw(): void {
    const focused = stage.contains(document.activeElement) ? (document.activeElement as SVGGElement).dataset.key : undefined;
    arranged = arrange(tree(), open(), size);
    boxes = new Map();
    stage.replaceChildren();
    for (const f of [...arranged.frames].sort((a, b) => (a.item as Group).depth - (b.item as Group).depth)) {
      const group = f.item as Group;
      const g = s("g", { class: "mgw-frame", "data-key": key(group), transform: `translate(${f.x.toFixed(1)},${f.y.toFixed(1)})`, tabindex: -1, role: "button", "aria-label": `${title(group)}, ${group.kind}, open` },
        s("title", {}, `${group.path}  ${group.kind}: Enter or double click folds it`),
        s("rect", { width: f.width, height: f.height, rx: 8 }), s("text", { x: 10, y: 17 }, `− ${cut(title(group), Math.max(8, Math.floor(f.width / 8)))}`));
      g.addEventListener("click", () => choose(group));
      g.addEventListener("dblclick", () => enter(group));
      boxes.set(key(group), g);
      stage.append(g);
    }
    links = arranged.links.map((link) => {
      const path = line(link.points);
      const tip = link.points.at(-1)!;
      const before = link.points.at(-2)!;
      const length = Math.hypot(tip[0] - before[0], tip[1] - before[1]) || 1;
      const base: [number, number] = [tip[0] - (8 * (tip[0] - before[0])) / length, tip[1] - (8 * (tip[1] - before[1])) / length];
      const types = [...new Set(link.edges.map((e) => texts[fact(tree().edges[e][0]).type]))];
      const words = link.edges.length > 1 ? `${link.edges.length} arrows: ${types.slice(0, 4).join(", ")}` : types[0];
      const g = s("g", { class: "mgw-link" }, s("title", {}, words), s("path", { class: "mgw-touch", d: path }),
        s("path", { d: path, "stroke-width": Math.min(4, 1.2 + Math.log2(link.edges.length) / 2) }), link.head && s("polygon", { points: head(`M${base}`, tip) }));
      stage.append(g);
      return [g, link];
    });
    for (const b of arranged.boxes) {
      const g = box(b.item, b.x, b.y, b.width, b.height);
      boxes.set(key(b.item), g);
      stage.append(g);
    }
    paint();
    mark();
    if (focused !== undefined) (boxes.get(focused) ?? svg).focus({ preventScroll: true });
  }

  function paint(): void {
    const name = colouring();
    picker.value = name;
    categories.clear();
    const drawn = arranged.boxes;
    legend.replaceChildren();
    if (name in QUANTITIES) {
      const values = drawn.map((b) => quantity(b.item, name) ?? 0).filter((v) => v > 0);
      const [lo, hi] = [Math.log(Math.min(...values)), Math.log(Math.max(...values))];
      for (const b of drawn) {
        const v = quantity(b.item, name) ?? 0;
        const share = v > 0 ? (hi > lo ? (Math.log(v) - lo) / (hi - lo) : 1) : 0;
        const fill = boxes.get(key(b.item))!.querySelector<SVGElement>(".mgw-fill")!;
        fill.style.fill = v > 0 ? "var(--forward)" : "none";
        fill.style.fillOpacity = String(0.06 + 0.5 * share);
      }
      if (values.length) legend.append(h("span", {}, `${QUANTITIES[name][0]}: ${short(Math.exp(lo), QUANTITIES[name][1])} `), h("i", { class: "mgw-ramp" }), h("span", {}, ` ${short(Math.exp(hi), QUANTITIES[name][1])}, in equal ratios`));
    } else if (name !== "kind") {
      for (const b of drawn) {
        const fill = boxes.get(key(b.item))!.querySelector<SVGElement>(".mgw-fill")!;
        fill.style.fill = colourOf(category(b.item, name));
        fill.style.fillOpacity = "0.3";
      }
      const all = [...categories];
      for (const [word, colour] of all.slice(0, 12)) legend.append(h("span", { class: "mgw-swatch" }, h("i", { style: `background:${colour}` }), word));
      if (all.length > 12) legend.append(h("span", { class: "mgw-note" }, `and ${all.length - 12} more`));
    } else {
      const present = new Set([...boxes.values()].map((g) => g.dataset.kind));
      for (const [kind, words] of [["op", "operation"], ["group", "module or part, folded"], ["nested", "operation with graphs inside"], ["variable", "variable"], ["input", "input"], ["error", "the operation that failed"]]) {
        if (present.has(kind)) legend.append(h("span", { class: "mgw-swatch" }, h("i", { "data-kind": kind }), words));
      }
    }
  }

  /** Marks the choice, what is upstream and downstream of it, and what a search has found. */
  function mark(): void {
    const of = flow.value;
    const all = chosen === null ? [] : tree().members(chosen);
    const set = new Set(all);
    const up = of === "up" || of === "both" ? tree().reach(all, true) : new Set<number>();
    const down = of === "down" || of === "both" ? tree().reach(all, false) : new Set<number>();
    const hits = new Set(found);
    const dim = chosen !== null && of !== "none";
    const state = (members: number[]): string => (members.some((n) => set.has(n)) ? "" : members.some((n) => up.has(n)) ? "up" : members.some((n) => down.has(n)) ? "down" : dim ? "dim" : "");
    for (const item of [...arranged.boxes, ...arranged.frames].map((b) => b.item)) {
      const g = boxes.get(key(item))!;
      const members = tree().members(item);
      g.dataset.state = g.classList.contains("mgw-frame") ? "" : state(members);
      g.toggleAttribute("data-selected", item === chosen);
      g.toggleAttribute("data-found", hits.size > 0 && !g.classList.contains("mgw-frame") && members.some((n) => hits.has(n)));
      g.setAttribute("tabindex", item === (chosen ?? arranged.boxes[0]?.item) ? "0" : "-1");
    }
    for (const [g, link] of links) {
      const ends = link.edges.map((e) => tree().edges[e]);
      const upward = ends.some(([a, b]) => up.has(a) && (up.has(b) || set.has(b)));
      const downward = ends.some(([a, b]) => down.has(b) && (down.has(a) || set.has(a)));
      g.dataset.state = upward ? "up" : downward ? "down" : dim && !ends.some(([a, b]) => set.has(a) && set.has(b)) ? "dim" : "";
    }
  }

  // ---------------------------------------------------------------------------------------------------------- acting
  function choose(item: Item | null, focus = true): void {
    chosen = item;
    if (item !== null) {
      const before = open().size;
      tree().reveal(item, open());
      if (open().size !== before) redraw();
    }
    const path = item === null ? "" : pathOf(item);
    if (channel.get("selected") !== path) channel.set("selected", path);
    mark();
    tell();
    if (item === null) return;
    reveal(item);
    const g = boxes.get(key(item));
    if (focus && root.contains(document.activeElement) && document.activeElement !== search) g?.focus({ preventScroll: true });
  }

  /** Enter: a group opens or folds, a node with a graph inside is entered. */
  function enter(item: Item): void {
    if (typeof item !== "number") return toggle(item);
    const inner = fact(item).nested?.[0];
    if (inner) visit(inner[1], item);
  }

  function toggle(group: Group): void {
    const was = open().has(group.id);
    if (was) open().delete(group.id);
    else open().add(group.id);
    keep(group);
    choose(group);
    say(was ? `${title(group)} is folded.` : `${title(group)} is open: ${many(group.items.length, "box").replace("boxs", "boxes")} inside.`);
  }

  /** Draws again with a box staying where it is on the screen. */
  function keep(item: Item): void {
    const place = () => [...arranged.boxes, ...arranged.frames].find((b) => b.item === item);
    const old = place();
    redraw();
    const now = place();
    if (old && now) view.call(behaviour.translateBy, old.x + old.width / 2 - now.x - now.width / 2, old.y - now.y);
  }

  function redraw(): void {
    draw();
    const now = [...open()].map((id) => tree().groups[id].path).filter(Boolean);
    if (at === 0 && JSON.stringify(channel.get("unfolded")) !== JSON.stringify(now)) channel.set("unfolded", now);
  }

  function unfold(): void {
    const closed = tree().groups.filter((g) => g.parent && open().has(g.parent.id) && !open().has(g.id));
    const boxes = arranged.boxes.length + closed.reduce((n, g) => n + g.items.length - 1, 0);
    if (boxes > 600) return say(`That would be ${boxes.toLocaleString("en")} boxes. Open one module at a time: double click it, or press Enter on it.`);
    closed.forEach((g) => open().add(g.id));
    redraw();
    fit();
    say(closed.length ? `${many(closed.length, "group")} opened.` : "Everything is open.");
  }

  function fold(): void {
    opens[at] = new Set([tree().root.id]);
    if (chosen !== null) chosen = typeof chosen === "number" ? tree().visible(chosen, open()) : tree().within(tree().root, tree().members(chosen)[0]);
    redraw();
    fit();
    choose(chosen);
    say("Everything is folded.");
  }

  function visit(graph: number, node: number): void {
    way.push({ graph: at, node });
    show(graph);
    say(`The graph ${graphs[graph].name} inside of ${texts[graphs[way.at(-1)!.graph].nodes[node].op]}. Escape leads back.`);
  }

  function leave(): void {
    const last = way.pop();
    if (!last) return;
    show(last.graph);
    choose(last.node);
  }

  function show(graph: number): void {
    at = graph;
    chosen = null;
    found = [];
    crumbs.replaceChildren();
    if (way.length) {
      way.forEach((w, i) => {
        const back = () => {
          const to = way[i];
          way = way.slice(0, i);
          show(to.graph);
          choose(to.node);
        };
        crumbs.append(h("button", { type: "button", onclick: back }, graphs[w.graph].name || "graph"), ` › ${texts[graphs[w.graph].nodes[w.node].op]}: `);
      });
      crumbs.append(h("strong", {}, graphs[at].name || "graph"));
    }
    draw();
    fit();
    tell();
  }

  // --------------------------------------------------------------------------------------------------------- telling
  function say(text: string): void {
    status.textContent = text;
  }

  const jump = (n: number, label: string) => h("button", { type: "button", title: pathOf(n), onclick: () => choose(n) }, label);

  function jumps(heading: string, nodes: number[], label: (n: number, i: number) => string): Child {
    if (!nodes.length) return null;
    const more = nodes.length > 12 ? h("span", { class: "mgw-note" }, `and ${nodes.length - 12} more`) : null;
    return h("div", {}, h("div", { class: "mgw-label" }, heading), h("div", { class: "mgw-jumps" }, ...nodes.slice(0, 12).map((n, i) => jump(n, label(n, i))), more));
  }

  function tell(): void {
    if (chosen === null) {
      const g = tree().graph;
      const operations = g.nodes.filter((n) => n.kind === "op").length;
      const others = g.nodes.length - operations;
      panel.replaceChildren(h("h4", {}, g.name || "graph"), h("p", {}, `${many(operations, "operation")}, ${many(others, "leaf").replace("leafs", "leaves")}: variables and inputs.`),
        h("p", { class: "mgw-hint" }, "Click a box to read about it. Double click opens and folds a module. Drag to move, Ctrl and wheel to zoom. Keys: arrows go along the graph, Enter opens, / searches, o unfolds, f folds, + and − zoom, 0 fits."));
      say(`${many(arranged.boxes.length, "box").replace("boxs", "boxes")} of ${many(operations, "operation")}.`);
      return;
    }
    const close = button("close", "×", "Escape", () => choose(null), { class: "mgw-close" });
    const text = (k: number | undefined) => (k === undefined ? "" : texts[k]);
    if (typeof chosen !== "number") {
      const group = chosen;
      const totals = Object.keys(QUANTITIES).map((q) => [q, quantity(group, q)] as const).filter(([, v]) => v !== undefined);
      panel.replaceChildren(h("h4", {}, title(group), close), h("p", { class: "mgw-about" }, `${group.kind}  ${group.path}`),
        h("p", {}, `${many(group.operations, "operation")}${group.times > 1 ? `: ${group.times} times the same stretch` : ""}.`),
        ...totals.map(([q, v]) => h("p", {}, `${QUANTITIES[q][0]}: ${short(v!, QUANTITIES[q][1])}`)),
        h("div", { class: "mgw-jumps" }, h("button", { type: "button", onclick: () => toggle(group) }, open().has(group.id) ? "fold" : "open")));
      say(`${title(group)}, ${group.kind} of ${many(group.operations, "operation")}.`);
      return;
    }
    const n = chosen;
    const f = fact(n);
    const names = (f.as ?? []).map((a) => texts[a]);
    const inputs = f.inputs ?? [];
    const measures = [f.bytes !== undefined && short(f.bytes, "B"), text(f.device), f.flops ? `${short(f.flops, "")} FLOPs` : "", f.seconds !== undefined && short(f.seconds, "s")].filter(Boolean);
    const excerpt = f.code && texts[f.code[0]].split("\n");
    const told: Child[] = [
      h("h4", {}, `${title(n)}`, close),
      h("p", { class: "mgw-about" }, `${f.kind === "op" ? texts[f.op] : f.kind}  ${pathOf(n)}`),
      h("p", { class: f.kind === "error" ? "mgw-error" : "" }, f.kind === "error" ? text(f.doc) : text(f.type), measures.length ? h("span", { class: "mgw-note" }, `  ${measures.join(" · ")}`) : null),
      f.formula !== undefined ? math(text(f.formula)) : null,
      ...(f.attrs ?? []).map((a) => h("p", { class: "mgw-about" }, texts[a])),
      ...(f.nested ?? []).map(([name, graph]) => h("div", { class: "mgw-jumps" }, h("button", { type: "button", onclick: () => visit(graph, n) }, `enter ${name}: ${many(graphs[graph].nodes.filter((m) => m.kind === "op").length, "operation")}`))),
      f.value !== undefined && h("div", {}, h("div", { class: "mgw-label" }, "value"), details(doc.values[f.value])),
      f.gradient !== undefined && h("div", { class: "mgw-part" }, h("div", { class: "mgw-label" }, `gradient, norm ${f.norm}`), details(doc.values[f.gradient])),
      jumps("inputs", inputs, (m, i) => `${names[i] ? `${names[i]} = ` : ""}${title(m)}`),
      jumps("used by", [...new Set(tree().users[n])], (m) => title(m)),
      f.site !== undefined && h("div", { class: "mgw-label" }, text(f.site)),
      excerpt ? h("pre", { class: "mgw-source" }, ...excerpt.map((l, i) => h("div", { class: i === f.code![2] ? "mgw-here-now" : "" }, h("span", { class: "mgw-line-number" }, String(f.code![1] + i)), l || " "))) : null,
      f.kind !== "error" && f.doc !== undefined && h("details", {}, h("summary", {}, `about ${texts[f.op]}: ${text(f.doc).split("\n")[0]}`), h("pre", { class: "mgw-about" }, text(f.doc))),
    ];
    panel.replaceChildren(h("div", {}, ...told));
    panel.scrollTop = 0;
    const value = f.value === undefined ? "" : `, ${doc.values[f.value].text}`;
    say(`${title(n)}: ${text(f.type)}${value}; ${many(inputs.length, "input")}, used ${tree().users[n].length === 1 ? "once" : `${tree().users[n].length} times`}.`);
  }

  // ------------------------------------------------------------------------------------------------------- searching
  let current = -1;
  function seek(): void {
    const words = search.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    current = -1;
    found = !words.length ? [] : tree().graph.nodes.flatMap((f, n) => {
      const text = [f.op, f.name, f.path, f.type, f.scope].map((k) => (k === undefined ? "" : texts[k])).join(" ").toLowerCase();
      return words.every((w) => text.includes(w)) ? [n] : [];
    });
    results.replaceChildren(...found.slice(0, FOUND).map((n) => h("button", { type: "button", role: "option", onclick: () => choose(n) }, pathOf(n), h("span", { class: "mgw-note" }, ` ${texts[fact(n).type]}`))));
    if (found.length > FOUND) results.append(h("span", { class: "mgw-note" }, `and ${(found.length - FOUND).toLocaleString("en")} more`));
    if (words.length) say(found.length ? `${many(found.length, "node")} found. Enter goes to the next.` : `Nothing here is called ${search.value.trim()}.`);
    mark();
  }
  search.addEventListener("input", seek);
  search.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !found.length) return;
    current = (current + (event.shiftKey ? found.length - 1 : 1)) % found.length;
    choose(found[current], false);
    event.preventDefault();
  });

  // ------------------------------------------------------------------------------------------------------------ keys
  /** The next box from the chosen one: along an arrow, or beside it. */
  function move(dx: number, dy: number): void {
    const from = [...arranged.boxes, ...arranged.frames].find((b) => b.item === chosen);
    if (!from) {
      const first = [...arranged.boxes].sort((a, b) => a.y - b.y || a.x - b.x)[0];
      return choose(first?.item ?? null);
    }
    const centre = (b: typeof from) => [b.x + b.width / 2, b.y + b.height / 2];
    const [x, y] = centre(from);
    const near = dy ? neighbours(chosen!, dy < 0) : null;
    const best = arranged.boxes.filter((b) => b.item !== chosen && (!near?.size || near.has(b.item))).map((b) => {
      const [bx, by] = centre(b);
      const along = dx ? (bx - x) * dx : (by - y) * dy;
      const across = dx ? Math.abs(by - y) : Math.abs(bx - x);
      return { b, along, cost: along + 3 * across };
    }).filter((c) => near?.size || c.along > 1).sort((p, q) => p.cost - q.cost)[0];
    if (best) choose(best.b.item);
  }
  function neighbours(item: Item, upstream: boolean): Set<Item> {
    const inside = new Set(tree().members(item));
    const next = [...inside].flatMap((n) => (upstream ? (fact(n).inputs ?? []) : tree().users[n])).filter((n) => !inside.has(n));
    return new Set(next.map((n) => tree().visible(n, open())));
  }
  keys(root, {
    ArrowDown: () => move(0, 1), ArrowUp: () => move(0, -1), ArrowLeft: () => move(-1, 0), ArrowRight: () => move(1, 0),
    Enter: () => chosen !== null && enter(chosen),
    " ": () => chosen !== null && enter(chosen),
    Escape: () => {
      if (document.activeElement === search && search.value) {
        search.value = "";
        seek();
        svg.focus();
      } else if (document.activeElement === search) svg.focus();
      else if (chosen !== null) choose(null);
      else leave();
    },
    "/": () => search.focus(), o: unfold, f: fold, "+": () => zoomed(1.3), "-": () => zoomed(1 / 1.3), "0": fit,
  });
  root.tabIndex = 0;

  // --------------------------------------------------------------------------------------------- what Python asks for
  function selected(): void {
    const path = channel.get("selected") as string;
    if (path === (chosen === null ? "" : pathOf(chosen))) return;
    if (!path) return choose(null);
    for (const [k, t] of trees.entries()) {
      const node = t.graph.nodes.findIndex((n) => texts[n.path] === path);
      const item: Item | undefined = node >= 0 ? node : t.groups.find((g) => g.path === path);
      if (item === undefined) continue;
      if (k !== at) {
        way = [];
        let inner = k;
        while (inner) { // the way from the outermost graph
          const outer = trees.findIndex((o) => o.graph.nodes.some((n) => n.nested?.some(([, g]) => g === inner)));
          way.unshift({ graph: outer, node: trees[outer].graph.nodes.findIndex((n) => n.nested?.some(([, g]) => g === inner)) });
          inner = outer;
        }
        show(k);
      }
      return choose(item, false);
    }
  }
  function unfolded(): void {
    const wanted = channel.get("unfolded") as string[] | null;
    if (!wanted) return;
    opens[0] = new Set([0, ...trees[0].groups.filter((g) => wanted.includes(g.path)).map((g) => g.id)]);
    if (at === 0) draw();
  }
  if (channel.get("unfolded")) {
    const wanted = channel.get("unfolded") as string[];
    opens[0] = new Set([0, ...trees[0].groups.filter((g) => wanted.includes(g.path)).map((g) => g.id)]);
  }
  show(0);
  selected();
  const first = requestAnimationFrame(() => {
    fit();
    if (chosen !== null) reveal(chosen);
  });
  svg.classList.toggle("mgw-calm", calm());
  const stops = [channel.on("selected", selected), channel.on("unfolded", unfolded), channel.on("colour", draw)];
  return () => {
    cancelAnimationFrame(first);
    stops.forEach((stop) => stop());
  };
}
