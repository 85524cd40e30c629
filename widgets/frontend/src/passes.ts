// The pass explorer (see passes.py): a row of steps, the graphs before and after the chosen one, its changes, and the
// generated code. What is marked follows from the chosen step; what is highlighted from the chosen change, box or line.
import type { Channel } from "./channel";
import { codeLines } from "./code";
import { button, h, keys, type Child } from "./dom";
import { badge, graphView, type Drawn, type GraphView, type Shape } from "./graph";

export type Kind = "removed" | "added" | "merged" | "rewritten";
export interface Change { kind: Kind; rule: number; before: number[]; after: number[]; here: string; line: number | null }
type Marks = Record<string, [Kind | "", ...number[]]>;
interface Pass { name: string; before: number; after: number; marks: [Marks, Marks]; changes: Change[]; number?: number; counts?: Record<Kind, number> }
interface Graph {
  drawing: Drawn | null;
  words: string;
  nodes: number;
  bytes: number;
  peak: number;
  titles: number[];
  about: number[];
  notes: string[];
}
export interface Cost { nodes: number; kernels?: number; calls?: number; peak?: number; arena?: number; time?: number; error?: string }
interface Answer extends Cost { off: number[] }
type Link = [first: number, last: number, box: number, line: number | null];
export interface Explored {
  kind: "passes";
  title: string;
  what: string;
  style: string;
  shapes: Shape[];
  graphs: Graph[];
  passes: Pass[];
  code: { graph: number; language: string; text: string; links: Link[] };
  costs: { all: Cost; alone: Cost[] };
  texts: string[];
}

export const MARKS: Record<Kind, string> = { removed: "−", added: "+", merged: "∪", rewritten: "↻" };
const LANGUAGES: Record<string, string> = { c: "C", cuda: "CUDA C", python: "Python" };

export function bytes(n: number): string {
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (n < 1023.5) return `${Number(n.toPrecision(4))} ${unit}`;
    n /= 1024;
  }
  return `${Number(n.toPrecision(4))} TiB`;
}

export const many = (n: number, word: string): string => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;

/** "x * 1 -> x" as pattern and replacement. */
export function halves(rule: string): [string, string] {
  const at = rule.indexOf(" -> ");
  return at < 0 ? [rule, ""] : [rule.slice(0, at), rule.slice(at + 4)];
}

/** The boxes that a set of changes is about, before and after. */
export function boxesOf(pass: Pass, changes: number[]): [Set<number>, Set<number>] {
  const found: [Set<number>, Set<number>] = [new Set(), new Set()];
  for (const c of changes) {
    pass.changes[c].before.forEach((b) => found[0].add(b));
    pass.changes[c].after.forEach((b) => found[1].add(b));
  }
  pass.marks.forEach((marks, side) => {
    for (const [box, [, ...numbers]] of Object.entries(marks)) if (numbers.some((n) => changes.includes(n))) found[side].add(Number(box));
  });
  return found;
}

export function passes(root: HTMLElement, channel: Channel): () => void {
  const doc: Explored = channel.get("document");
  const { graphs, code, texts } = doc;
  const last = doc.passes.length;
  let views: GraphView[] = [];
  let lines: HTMLElement[] = [];
  let rows: HTMLElement[] = [];
  let chosen = -1; // the change, or the line of code, that is chosen
  let shown = -1;
  const costs = new Map<string, Cost>(); // by the passes that are off

  // -------------------------------------------------------------------------------------------------- the elements
  const status = h("div", { class: "mgw-status", role: "status", "aria-live": "polite" });
  const pipeline = h("ol", { class: "mgw-pipeline", "aria-label": "passes, in order" });
  const main = h("div", { class: "mgw-sides" });
  const list = h("div", { class: "mgw-changes" });
  const legend = h("div", { class: "mgw-legend" });
  const price = h("div", { class: "mgw-price", "aria-live": "polite" });
  const find = h("input", { type: "search", placeholder: "find a node  /", "aria-label": "find a node", oninput: () => search() });
  const quiet = doc.passes.map((p) => p.before === p.after && !p.changes.length);
  const switches: HTMLInputElement[] = [];
  const steps = [...doc.passes.map((p) => p.name), "code"].map((name, i) => {
    const pass = doc.passes[i];
    const facts: Child[] = pass
      ? [
        h("span", {}, quiet[i] ? "no change" : pass.number ? many(pass.number, "change") : "no rule named"),
        h("span", {}, `${graphs[pass.before].nodes} → ${graphs[pass.after].nodes} nodes`),
        h("span", {}, bytes(graphs[pass.after].bytes)),
      ]
      : [h("span", {}, LANGUAGES[code.language]), h("span", {}, many(code.text.trimEnd().split("\n").length, "line")), h("span", {}, "")];
    const choose = h("button", { type: "button", class: "mgw-step", onclick: () => go(i), title: name.replaceAll("_", " ") },
      h("strong", {}, name.replaceAll("_", " ")), ...facts);
    const item = h("li", { class: quiet[i] ? "mgw-quiet" : "" }, choose);
    if (pass) {
      switches.push(h("input", { type: "checkbox", checked: true, "aria-label": `${name.replaceAll("_", " ")}, pass ${i + 1}, is on`, onchange: () => turn() }));
      item.append(h("label", { class: "mgw-switch", title: "turn this pass off and see what it costs" }, switches[i], "on"));
    }
    return item;
  });
  pipeline.append(...steps);
  root.append(
    h("style", {}, doc.style),
    h("div", { class: "mgw-title" }, h("strong", {}, doc.title), " ", h("span", {}, doc.what)),
    pipeline,
    price,
    h("div", { class: "mgw-bar" },
      button("step back", "◀", "←", () => go(step() - 1)), button("next step", "▶", "→", () => go(step() + 1)),
      legend, h("span", { class: "mgw-space" }), find,
      button("zoom in", "+", "+", () => views.forEach((v) => v.scale(1.25))),
      button("zoom out", "−", "-", () => views.forEach((v) => v.scale(0.8))),
      button("fit the width", "⤢", "0", () => views.forEach((v) => v.scale("fit")))),
    status,
    main,
    list,
  );
  root.tabIndex = 0;
  root.setAttribute("role", "application");
  root.setAttribute("aria-label", `${doc.title}. Left and right arrows go from pass to pass, up and down from change to change, slash finds a node.`);

  // ------------------------------------------------------------------------------------------------------- showing
  const step = (): number => Math.max(0, Math.min(last, channel.get("step") as number));
  const go = (to: number): void => {
    const target = Math.max(0, Math.min(last, to));
    if (target !== step()) channel.set("step", target);
    else show();
  };

  function side(number: number, where: number, heading: string): HTMLElement {
    const g = graphs[number];
    const titles = g.titles.map((t) => texts[t]);
    const view = graphView(g.drawing, g.words, doc.shapes, titles, g.about.map((t) => texts[t]), heading, (box) => pick(where, box));
    views[where] = view;
    const facts = `${many(g.nodes, "node")}, ${bytes(g.bytes)} of results, peak ${bytes(g.peak)} if planned now`;
    return h("section", {}, h("h4", {}, heading, " ", h("span", { class: "mgw-note" }, facts)), view.element,
      ...g.notes.map((n) => h("div", { class: "mgw-note" }, n)));
  }

  function show(): void {
    const now = step();
    root.dataset.step = String(now);
    steps.forEach((s, i) => {
      if (i === now) s.firstElementChild!.setAttribute("aria-current", "step");
      else s.firstElementChild!.removeAttribute("aria-current");
    });
    if (shown === now) return;
    shown = now;
    chosen = -1;
    [views, lines, rows] = [[], [], []];
    legend.replaceChildren();
    list.replaceChildren();
    if (now === last) showCode();
    else showPass(doc.passes[now]);
    views.forEach((v) => v.scale("fit"));
    mark();
    const strip = pipeline.getBoundingClientRect();
    const tile = steps[now].getBoundingClientRect();
    if (tile.left < strip.left || tile.right > strip.right) pipeline.scrollLeft += tile.left - strip.left - 40;
  }

  function showPass(pass: Pass): void {
    main.replaceChildren(side(pass.before, 0, "before"), side(pass.after, 1, "after"));
    const counts = pass.counts;
    const present = (Object.keys(MARKS) as Kind[]).filter((k) => counts?.[k]);
    legend.append(...present.map((k) => h("span", { class: "mgw-key", "data-mark": k }, h("i", {}, MARKS[k]), ` ${k} ${counts![k].toLocaleString("en")}`)));
    rows = pass.changes.map((c, i) => {
      const [from, to] = halves(texts[c.rule]);
      return h("button", { type: "button", class: "mgw-change", "data-mark": c.kind, onclick: () => choose(i) },
        h("i", { title: c.kind, "aria-label": c.kind }, MARKS[c.kind]),
        h("span", { class: "mgw-rule" }, h("code", {}, from), to && h("span", { class: "mgw-to", "aria-label": "becomes" }, " → "), to && h("code", {}, to)),
        c.here && h("span", { class: "mgw-here" }, "here: ", h("code", {}, c.here)),
        c.line !== null && h("span", { class: "mgw-here" }, "your line ", h("code", {}, texts[c.line])));
    });
    const total = pass.number ?? pass.changes.length;
    if (rows.length) list.append(h("h4", {}, `${many(total, "change")} `, h("span", { class: "mgw-note" }, "click one, or go through them with ↑ and ↓")), ...rows);
    else list.append(h("h4", {}, quiet[shown] ? "This pass found nothing to change." : "This pass noted no change with a rule."));
    if (total > rows.length) list.append(h("div", { class: "mgw-note" }, `and ${(total - rows.length).toLocaleString("en")} more, marked in the graphs`));
    const kinds = present.map((k) => `${counts![k]} ${k}`).join(", ");
    say(`${pass.name.replaceAll("_", " ")}, pass ${shown + 1} of ${last}: ${graphs[pass.before].nodes} nodes before, ${graphs[pass.after].nodes} after${kinds ? `; nodes ${kinds}` : "; nothing changed"}.`);
    const first = boxesOf(pass, pass.changes.length ? [0] : []);
    requestAnimationFrame(() => views.forEach((v, i) => v.reveal(first[i].size ? [...first[i]].slice(0, 1) : [0])));
  }

  function showCode(): void {
    lines = codeLines(code.text, code.language);
    for (const [from, to] of code.links) for (let i = from; i <= to; i++) lines[i].classList.add("mgw-linked");
    const text = h("div", { class: "mgw-canvas mgw-code", role: "group", "aria-label": "generated code" }, ...lines);
    lines.forEach((line, i) => line.addEventListener("click", () => pickLine(i)));
    const note = h("span", { class: "mgw-note" }, "click a line for its boxes, a box for its lines");
    main.replaceChildren(side(code.graph, 0, "the graph"), h("section", {}, h("h4", {}, `the ${LANGUAGES[code.language]} made from it `, note), text));
    say(`The generated ${LANGUAGES[code.language]}: ${many(lines.length, "line")} beside the graph of ${many(graphs[code.graph].nodes, "node")}.`);
    requestAnimationFrame(() => {
      views[0].reveal([code.links[0]?.[2] ?? 0]);
      scrollTo(Math.max(0, (code.links[0]?.[0] ?? 0) - 2));
    });
  }

  function say(text: string): void {
    status.textContent = text;
  }

  /** The marks of the chosen step, and what is highlighted on top of them. */
  function mark(): void {
    const pass = doc.passes[shown];
    views.forEach((view, where) => {
      view.boxes.forEach((g, i) => {
        const kind = pass?.marks[where][i]?.[0] ?? "";
        if (kind) g.dataset.mark = kind;
        else delete g.dataset.mark;
        badge(g, kind ? MARKS[kind] : "");
      });
    });
  }

  function highlight(before: Iterable<number>, after: Iterable<number>, codeAt: number[] = []): void {
    const wanted = [[...before], [...after]];
    views.forEach((view, where) => {
      view.boxes.forEach((g, i) => g.toggleAttribute("data-selected", wanted[where].includes(i)));
      view.reveal(wanted[where]);
    });
    lines.forEach((line, i) => line.toggleAttribute("data-selected", codeAt.includes(i)));
  }

  // ------------------------------------------------------------------------------------------------------ choosing
  function choose(change: number): void {
    const pass = doc.passes[shown];
    chosen = change;
    rows.forEach((row, i) => {
      row.toggleAttribute("data-selected", i === change);
      row.removeAttribute("data-about");
    });
    if (change < 0) return highlight([], []);
    const c = pass.changes[change];
    highlight(...boxesOf(pass, [change]));
    within(list, rows[change]);
    const [from, to] = halves(texts[c.rule]);
    say(`Change ${change + 1} of ${rows.length}, ${c.kind}: ${from}${to ? ` becomes ${to}` : ""}${c.here ? `; here ${c.here.replace("→", "becomes")}` : ""}${c.line === null ? "" : `; ${texts[c.line]}`}.`);
    channel.set("selected", texts[c.rule]);
  }

  function pick(where: number, box: number): void {
    const title = texts[graphs[shown === last ? code.graph : where ? doc.passes[shown].after : doc.passes[shown].before].titles[box]];
    channel.set("selected", title);
    if (shown === last) {
      const links = code.links.filter(([, , b]) => b === box);
      const at = links.flatMap(([from, to]) => Array.from({ length: to - from + 1 }, (_, i) => from + i));
      highlight([box], [], at);
      chosen = at[0] ?? -1;
      if (at.length) scrollTo(Math.min(...at.filter((i) => !/^\s*\/\//.test(lines[i].textContent ?? "")).concat(at.at(-1)!)));
      const where = [...new Set(links.map((l) => l[3]).filter((l) => l !== null))].map((l) => texts[l as number]);
      return say(`${title}: ${at.length ? `lines ${spans(at)}` : "no line of its own: it only looks at memory, or is inside of another"}${where.length ? `; from ${where.join(" and ")}` : ""}.`);
    }
    const pass = doc.passes[shown];
    const [kind, ...changes] = pass.marks[where][box] ?? [""];
    rows.forEach((row, i) => {
      row.toggleAttribute("data-about", changes.includes(i));
      row.removeAttribute("data-selected");
    });
    const [before, after] = boxesOf(pass, changes);
    (where ? after : before).add(box);
    highlight(before, after);
    if (changes.length) within(list, rows[changes[0]]);
    chosen = changes.length ? changes[0] : -1;
    const why = changes.map((c) => texts[pass.changes[c].rule]).slice(0, 3).join("; ");
    const untold = kind === "removed" ? "no rule of its own: nothing uses it any more, or an equal one takes its place" : "no rule of its own";
    say(`${title}${kind ? `, ${kind}: ${why || untold}` : why ? `: ${why}` : ": this pass leaves it as it is"}.`);
  }

  function pickLine(line: number): void {
    chosen = line;
    const here = code.links.filter(([from, to]) => from <= line && line <= to);
    highlight(here.map((l) => l[2]), [], here.length ? here.flatMap(([from, to]) => Array.from({ length: to - from + 1 }, (_, i) => from + i)) : [line]);
    scrollTo(line);
    const names = [...new Set(here.map((l) => texts[graphs[code.graph].titles[l[2]]]))];
    const where = [...new Set(here.map((l) => l[3]).filter((l) => l !== null))].map((l) => texts[l as number]);
    channel.set("selected", names.join(", "));
    say(`Line ${line + 1}${names.length ? ` computes ${names.join(", ")}` : " belongs to no node"}${where.length ? `; from ${where.join(" and ")}` : ""}.`);
  }

  const within = (host: HTMLElement, e: HTMLElement): void => {
    const [outer, inner] = [host.getBoundingClientRect(), e.getBoundingClientRect()];
    if (inner.top < outer.top) host.scrollTop -= outer.top - inner.top + 8;
    else if (inner.bottom > outer.bottom) host.scrollTop += inner.bottom - outer.bottom + 8;
  };
  const scrollTo = (line: number): void => {
    const e = lines[line];
    if (e?.parentElement) e.parentElement.scrollTop += e.getBoundingClientRect().top - e.parentElement.getBoundingClientRect().top - 60;
  };

  function next(by: number): void {
    if (shown === last) {
      const linked = lines.flatMap((line, i) => (line.classList.contains("mgw-linked") ? [i] : []));
      if (!linked.length) return;
      const to = by > 0 ? linked.find((i) => i > chosen) : linked.filter((i) => i < chosen).at(-1);
      if (to !== undefined) pickLine(to);
    } else if (rows.length) choose(Math.max(0, Math.min(rows.length - 1, chosen < 0 ? (by > 0 ? 0 : rows.length - 1) : chosen + by)));
  }

  function search(): void {
    const wanted = find.value.trim().toLowerCase();
    const numbers = shown === last ? [code.graph] : [doc.passes[shown].before, doc.passes[shown].after];
    let count = 0;
    views.forEach((view, where) => {
      const hits = view.boxes.map((_, i) => i).filter((i) => wanted && texts[graphs[numbers[where]].titles[i]].toLowerCase().includes(wanted));
      view.boxes.forEach((g, i) => g.toggleAttribute("data-found", hits.includes(i)));
      view.reveal(hits.slice(0, 1));
      count += hits.length;
    });
    if (wanted) say(`${many(count, "node")} with “${find.value}” in ${numbers.length > 1 ? "the two graphs" : "the graph"}.`);
  }

  // ------------------------------------------------------------------------------------------------- turning off
  const off = (): number[] => (channel.get("off") as number[]) ?? [];

  function turn(): void {
    channel.set("off", switches.flatMap((box, i) => (box.checked ? [] : [i])));
  }

  function showOff(): void {
    const now = off();
    switches.forEach((box, i) => {
      box.checked = !now.includes(i);
      steps[i].toggleAttribute("data-off", now.includes(i));
    });
    price.replaceChildren();
    if (!now.length) return;
    const key = now.join();
    const names = now.map((i) => `${doc.passes[i].name.replaceAll("_", " ")}`).join(", ");
    const known = costs.get(key) ?? (now.length === 1 ? doc.costs.alone[now[0]] : undefined);
    if (channel.send && !costs.has(key)) channel.send({ off: now });
    const reset = button("turn all passes on", "all on", "", () => channel.set("off", []));
    if (!known || known.error) {
      const told = doc.costs.alone.length ? "This page knows what each single pass costs" : "The graph is too large to have tried every pass beforehand";
      const live = channel.send ? "measuring …" : `${told}; a notebook with a kernel compiles it without any of them.`;
      price.append(h("p", {}, h("strong", {}, `Without ${names}: `), known?.error ?? live, " ", reset));
      return;
    }
    const all = doc.costs.all;
    const cells: [string, number | undefined, number | undefined, (n: number) => string][] = [
      ["nodes", all.nodes, known.nodes, String], ["kernels", all.kernels, known.kernels, String], ["other calls", all.calls, known.calls, String],
      ["arena", all.arena, known.arena, bytes], ["peak memory", all.peak, known.peak, bytes],
    ];
    const rows = cells.filter(([, a, b]) => a !== undefined && b !== undefined && (a || b)).map(([what, a, b, text]) =>
      h("td", { "data-changed": a !== b }, h("span", { class: "mgw-label" }, what), h("b", {}, a === b ? text(b!) : `${text(a!)} → ${text(b!)}`)));
    const time = known.time !== undefined ? `${known.time.toFixed(2)} × as long` : channel.send ? "measuring …" : "";
    if (time) rows.push(h("td", { "data-changed": true }, h("span", { class: "mgw-label" }, "time"), h("b", {}, time)));
    price.append(h("table", {}, h("tr", {}, h("th", { scope: "row" }, `Without ${names}`), ...rows, h("td", {}, reset))));
  }

  keys(root, {
    ArrowRight: () => go(step() + 1),
    ArrowLeft: () => go(step() - 1),
    Home: () => go(0),
    End: () => go(last),
    ArrowDown: () => next(1),
    ArrowUp: () => next(-1),
    "/": () => find.focus(),
    "+": () => views.forEach((v) => v.scale(1.25)),
    "=": () => views.forEach((v) => v.scale(1.25)),
    "-": () => views.forEach((v) => v.scale(0.8)),
    "0": () => views.forEach((v) => v.scale("fit")),
    x: () => {
      if (shown === last) return;
      switches[shown].checked = !switches[shown].checked;
      turn();
    },
    Escape: () => {
      find.value = "";
      search();
      choose(-1);
      channel.set("selected", "");
      root.focus();
    },
  });

  const stops = [channel.on("step", show), channel.on("off", showOff)];
  if (channel.onMessage) {
    stops.push(channel.onMessage((answer: Answer) => {
      costs.set(answer.off.join(), answer);
      if (off().join() === answer.off.join()) showOff();
    }));
  }
  show();
  showOff();
  return () => stops.forEach((end) => end());
}

/** "3 to 5, 9" for lines counted from 0. */
export function spans(at: number[]): string {
  const sorted = [...new Set(at)].sort((a, b) => a - b);
  const found: [number, number][] = [];
  for (const i of sorted) {
    const open = found.at(-1);
    if (open && open[1] === i - 1) open[1] = i;
    else found.push([i, i]);
  }
  return found.map(([a, b]) => (a === b ? `${a + 1}` : `${a + 1} to ${b + 1}`)).join(", ");
}
