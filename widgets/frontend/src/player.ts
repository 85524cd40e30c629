// The propagation player: a film of a run (see player.py) over its drawing. What is to be seen at a frame follows from
// the frames of its round up to it, so every frame can be jumped to.
import type { Channel } from "./channel";
import { button, calm, h, keys, math, s, type Child } from "./dom";
import { Drawing, type Ends } from "./drawing";
import { details, inside, type Summary } from "./values";

interface Came { along: Ends | null; value: number }
interface Part { along: Ends | null; value: number; to: string; local?: string[]; product?: string; derivative?: number }
export interface Frame {
  phase: string;
  box: string;
  what: "start" | "value" | "gradient" | "accumulate" | "update" | "error";
  say: string;
  value?: number;
  before?: number;
  start?: [string, number][];
  along?: Ends[];
  came?: Came[];
  parts?: Part[];
  formula?: string[];
  bad?: boolean;
}
interface BoxFacts { title: string; kind: string; about: string; leaf: boolean }
export interface Film {
  kind: "player";
  title: string;
  what: string;
  frames: Frame[];
  rounds: number[];
  values: Summary[];
  boxes: Record<string, BoxFacts>;
  error: string;
  notes: string[];
}

export interface State {
  value: Map<string, number>;
  gradient: Map<string, number>;
  updated: Set<string>;
}

/** What every box holds at a frame. A gradient that is missing has not arrived: that is not a gradient of 0. */
export function stateAt(film: Film, step: number): State {
  const state: State = { value: new Map(), gradient: new Map(), updated: new Set() };
  const first = film.rounds.filter((r) => r <= step).at(-1) ?? 0;
  for (const f of film.frames.slice(first, step + 1)) {
    for (const [box, v] of f.start ?? []) state.value.set(box, v);
    if (f.value === undefined) continue;
    if (f.what === "value") state.value.set(f.box, f.value);
    else if (f.what === "update") {
      state.value.set(f.box, f.value);
      state.updated.add(f.box);
    } else state.gradient.set(f.box, f.value);
  }
  return state;
}

/** Stretches of frames with the same phase, round by round. */
export function phases(film: Film): { phase: string; round: number; from: number; to: number }[] {
  const found: { phase: string; round: number; from: number; to: number }[] = [];
  let round = -1;
  film.frames.forEach((f, i) => {
    if (film.rounds.includes(i)) round += 1;
    const last = found.at(-1);
    if (last && last.phase === f.phase && last.round === round) last.to = i;
    else found.push({ phase: f.phase, round, from: i, to: i });
  });
  return found;
}

const SPEEDS = [0.5, 1, 2, 4];
const MARKS: Record<string, string> = { forward: "▶", loss: "◆", backward: "◀", accumulate: "Σ", update: "↻", inputs: "●" };

export function player(root: HTMLElement, channel: Channel): () => void {
  const film: Film = channel.get("document");
  const { frames, values, boxes } = film;
  const last = frames.length - 1;
  const withGradient = new Set(frames.filter((f) => f.what === "gradient" || f.what === "accumulate").map((f) => f.box));
  const stretches = phases(film);
  let speed = 1;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let shown = -1;
  let selected = "";

  // -------------------------------------------------------------------------------------------------- the elements
  const canvas = h("div", { class: "mgw-canvas" });
  const drawing = new Drawing(canvas, channel.get("picture"));
  const view = drawing.zoomable();
  const panel = h("div", { class: "mgw-panel" });
  const status = h("div", { class: "mgw-status", role: "status", "aria-live": "polite" });
  const slider = h("input", { type: "range", min: 0, max: last, step: 1, "aria-label": "step", oninput: () => go(Number(slider.value)) });
  const count = h("span", { class: "mgw-count" });
  const play = button("play", "▶", "space", () => toggle(), { class: "mgw-play" });
  const pace = h("select", { "aria-label": "speed", title: "speed", onchange: () => (speed = Number(pace.value)) });
  pace.append(...SPEEDS.map((x) => h("option", { value: x, selected: x === 1 }, `${x}×`)));
  const find = h("input", { type: "search", placeholder: "find a node  /", "aria-label": "find a node", oninput: () => search(false) });
  const strip = h("div", { class: "mgw-phases", role: "group", "aria-label": "phases" });
  const parts = stretches.map((p) => {
    const part = button(p.phase, `${MARKS[p.phase] ?? ""} ${p.phase}`, "", () => go(p.from), { class: "mgw-phase", "data-phase": p.phase });
    part.style.flexGrow = String(p.to - p.from + 1);
    return part;
  });
  const rounds = h("select", { "aria-label": "round", title: "training step", onchange: () => toRound(Number(rounds.value)) });
  rounds.append(...film.rounds.map((_, i) => h("option", { value: i }, `round ${i + 1} of ${film.rounds.length}`)));
  const bar = h(
    "div",
    { class: "mgw-bar" },
    button("first step", "«", "Home", () => go(0)),
    button("step back", "◀|", "←", () => go(step() - 1)),
    play,
    button("step forward", "|▶", "→", () => go(step() + 1)),
    button("last step", "»", "End", () => go(last)),
    pace,
    film.rounds.length > 1 && rounds,
    count,
    h("span", { class: "mgw-space" }),
    find,
    button("zoom in", "+", "+", () => view.by(1.25)),
    button("zoom out", "−", "-", () => view.by(0.8)),
    button("whole drawing", "⤢", "0", () => view.reset()),
  );
  root.append(
    h("div", { class: "mgw-title" }, h("strong", {}, film.title), " ", h("span", {}, film.what)),
    bar,
    strip,
    slider,
    h("div", { class: "mgw-main" }, canvas, panel),
    status,
    ...film.notes.map((n) => h("div", { class: "mgw-note" }, n)),
  );
  root.tabIndex = 0;
  root.setAttribute("role", "application");
  root.setAttribute("aria-label", `${film.title}. Arrow keys step, space plays, slash finds a node.`);

  // ------------------------------------------------------------------------------------------------------ stepping
  const step = (): number => Math.max(0, Math.min(last, channel.get("step") as number));
  const phaseAt = (): number => stretches.findIndex((p) => step() >= p.from && step() <= p.to);

  /** The same place in another round: to see what training changes there. */
  function toRound(to: number): void {
    const now = stretches[phaseAt()];
    go(film.rounds[to] + step() - film.rounds[now.round]);
  }

  function go(to: number): void {
    const target = Math.max(0, Math.min(last, to));
    if (target !== channel.get("step")) channel.set("step", target);
    else show();
  }

  function stop(): void {
    clearTimeout(timer);
    timer = undefined;
    play.textContent = "▶";
    play.setAttribute("aria-label", "play");
    if (channel.get("playing")) channel.set("playing", false);
  }

  function start(): void {
    if (timer !== undefined) return;
    if (step() === last) go(0);
    play.textContent = "❚❚";
    play.setAttribute("aria-label", "pause");
    const tick = () => {
      timer = setTimeout(() => {
        if (!root.isConnected) return stop();
        go(step() + 1);
        if (step() >= last) stop();
        else tick();
      }, 900 / speed);
    };
    tick();
  }

  function toggle(): void {
    if (timer === undefined) start();
    else stop();
  }

  // ------------------------------------------------------------------------------------------------------- showing
  function show(): void {
    const now = step();
    const frame = frames[now];
    const state = stateAt(film, now);
    drawing.clearOverlays();
    for (const [id, g] of drawing.boxes) paint(id, g, frame, state);
    drawing.eachArrow((g) => (g.dataset.flow = ""));
    for (const ends of frame.along ?? []) flow(ends, "forward");
    for (const part of frame.parts ?? []) if (part.along) flow(part.along, "backward", values[part.value].text);
    if (!frame.parts?.length) for (const c of frame.came ?? []) if (c.along) flow(c.along, "backward", values[c.value].text);
    slider.value = String(now);
    slider.setAttribute("aria-valuetext", `step ${now + 1} of ${frames.length}: ${frame.say}`);
    count.textContent = `${now + 1} / ${frames.length}`;
    const round = stretches[phaseAt()].round;
    rounds.value = String(round);
    if (strip.dataset.round !== String(round)) {
      strip.dataset.round = String(round);
      strip.replaceChildren(...parts.filter((_, i) => stretches[i].round === round));
    }
    stretches.forEach((p, i) => parts[i].setAttribute("aria-current", now >= p.from && now <= p.to ? "step" : "false"));
    status.textContent = frame.say;
    status.classList.toggle("mgw-bad", frame.what === "error" || !!frame.bad);
    panel.replaceChildren(...(selected ? boxPanel(selected, state) : framePanel(frame)));
    if (frame.box) view.reveal(frame.box);
    if (now === shown + 1 && !calm()) run(frame);
    shown = now;
    root.dataset.step = String(now);
  }

  function paint(id: string, g: SVGGElement, frame: Frame, state: State): void {
    const here = frame.box === id;
    const value = state.value.get(id);
    const gradient = state.gradient.get(id);
    const now = frame.what === "value" ? "forward" : frame.what === "gradient" || frame.what === "accumulate" ? "backward" : frame.what;
    g.dataset.state = here ? now : gradient !== undefined ? "has-gradient" : value !== undefined ? "has-value" : "waiting";
    g.toggleAttribute("data-updated", state.updated.has(id));
    g.toggleAttribute("data-selected", id === selected);
    drawing.slot(id, 0, value === undefined ? "…" : values[value].text);
    drawing.slot(id, 1, !withGradient.has(id) ? "" : gradient === undefined ? "no grad yet" : `grad ${values[gradient].text}`);
    const room = drawing.room(id);
    if (!room) return;
    g.querySelectorAll(".mgw-map").forEach((e) => e.remove());
    const [x, y, w, t] = ["x", "y", "width", "height"].map((name) => Number(room.getAttribute(name)));
    const half = withGradient.has(id) ? w / 2 - 3 : w;
    const put = (v: number | undefined, left: number) => {
      const map = v === undefined ? null : values[v].map;
      if (map) g.append(inside(map, left, y, half, t));
    };
    put(value, x);
    if (withGradient.has(id)) put(gradient, x + w / 2 + 3);
  }

  function flow(ends: Ends, direction: "forward" | "backward", text = ""): void {
    const g = drawing.arrow(ends);
    if (!g) return;
    g.dataset.flow = direction;
    const path = g.querySelector("path");
    if (!text || !path || !("getPointAtLength" in path)) return;
    const p = path.getPointAtLength(path.getTotalLength() / 2);
    drawing.overlay(s("text", { class: "mgw-overlay mgw-product", x: p.x, y: p.y + 4, "text-anchor": "middle" }, text));
  }

  function run(frame: Frame): void {
    const time = 600 / speed;
    for (const ends of frame.along ?? []) {
      const g = drawing.arrow(ends);
      if (g) drawing.runner(g, false, time);
    }
    for (const part of frame.parts ?? []) {
      const g = part.along && drawing.arrow(part.along);
      if (g) drawing.runner(g, true, time);
    }
  }

  // ----------------------------------------------------------------------------------------------------- the panel
  function framePanel(f: Frame): Child[] & Node[] {
    const title = f.box ? boxes[f.box].title : "Start";
    const heading = h("h4", { "data-phase": f.phase }, `${MARKS[f.phase] ?? ""} ${f.phase}`, f.box ? `: ${title}` : "");
    const content: Child[] = [heading];
    const value = f.value === undefined ? undefined : values[f.value];
    if (f.what === "start") content.push(h("p", {}, f.say), h("p", { class: "mgw-hint" }, "Step with → or play with the space bar. Click a node to read about it."));
    if (f.what === "error") content.push(h("pre", { class: "mgw-error" }, f.say));
    if (f.what === "value") content.push(math(f.formula), details(value));
    if (f.what === "gradient" || f.what === "accumulate") {
      const many = (f.came?.length ?? 0) > 1;
      content.push(h("div", { class: "mgw-label" }, f.what === "gradient" ? "gradient that arrives" : "gradient of the leaf"));
      if (many) {
        content.push(h("ul", { class: "mgw-sum" }, ...f.came!.map((c) => h("li", {}, `${values[c.value].text}${c.along ? ` from ${boxes[c.along[1]].title}` : ""}`))));
        content.push(h("div", { class: "mgw-label" }, "paths meet: their sum"));
      }
      content.push(details(value));
    }
    for (const p of f.parts ?? []) {
      content.push(
        h("div", { class: "mgw-part" },
          h("div", { class: "mgw-label" }, `to ${p.to}`),
          math(p.local),
          p.derivative !== undefined && h("div", { class: "mgw-row" }, "local derivative ", details(values[p.derivative])),
          p.product ? math(p.product) : details(values[p.value])),
      );
    }
    if (f.what === "update") {
      content.push(h("div", { class: "mgw-label" }, "before"), details(values[f.before!]), h("div", { class: "mgw-label" }, "after"), details(value));
    }
    return content.filter(Boolean) as Node[];
  }

  function boxPanel(id: string, state: State): Node[] {
    const box = boxes[id];
    const value = state.value.get(id);
    const gradient = state.gradient.get(id);
    const jumps = frames.flatMap((f, i) => (f.box === id ? [button(f.say, `${MARKS[f.phase] ?? ""} step ${i + 1}`, "", () => go(i))] : []));
    return [
      h("h4", {}, box.title, button("close", "×", "Escape", () => choose(""), { class: "mgw-close" })),
      h("pre", { class: "mgw-about" }, box.about),
      h("div", { class: "mgw-label" }, "value"),
      value === undefined ? h("span", {}, "not computed yet") : (details(values[value]) as Node),
      ...(withGradient.has(id)
        ? [h("div", { class: "mgw-label" }, "gradient"), gradient === undefined ? h("span", {}, "no gradient yet") : (details(values[gradient]) as Node)]
        : [h("div", { class: "mgw-label" }, "no gradient reaches this node")]),
      h("div", { class: "mgw-jumps" }, ...jumps.slice(0, 40)),
    ];
  }

  // ---------------------------------------------------------------------------------------------------- selecting
  function choose(id: string): void {
    selected = id;
    channel.set("selected", id ? boxes[id].title : "");
    show();
    if (id) view.reveal(id);
  }

  function search(next: boolean): void {
    const wanted = find.value.trim().toLowerCase();
    const named = Object.keys(boxes).filter((id) => wanted && boxes[id].title.toLowerCase().includes(wanted));
    const matches = named.length ? named : Object.keys(boxes).filter((id) => wanted && boxes[id].about.toLowerCase().includes(wanted));
    for (const [id, g] of drawing.boxes) g.toggleAttribute("data-found", matches.includes(id));
    if (matches.length) choose(matches[next ? (matches.indexOf(selected) + 1) % matches.length : 0]);
    else if (wanted) status.textContent = `No node mentions “${find.value}”.`;
  }
  find.addEventListener("keydown", (event) => {
    if (event.key === "Enter") search(true);
  });

  drawing.selectable((id) => boxes[id]?.title ?? id, (id) => choose(id === selected ? "" : id));
  keys(root, {
    ArrowRight: () => go(step() + 1),
    ArrowLeft: () => go(step() - 1),
    PageDown: () => toRound(Math.min(stretches[phaseAt()].round + 1, film.rounds.length - 1)),
    PageUp: () => toRound(Math.max(stretches[phaseAt()].round - 1, 0)),
    ArrowDown: () => go(stretches[Math.min(phaseAt() + 1, stretches.length - 1)].from),
    ArrowUp: () => go(stretches[Math.max(phaseAt() - 1, 0)].from),
    Home: () => go(0),
    End: () => go(last),
    " ": () => toggle(),
    "/": () => find.focus(),
    "+": () => view.by(1.25),
    "=": () => view.by(1.25),
    "-": () => view.by(0.8),
    "0": () => view.reset(),
    Enter: () => frames[step()].box && choose(frames[step()].box),
    Escape: () => {
      find.value = "";
      drawing.boxes.forEach((g) => g.removeAttribute("data-found"));
      choose("");
      root.focus();
    },
  });

  const stops = [
    channel.on("step", show),
    channel.on("playing", () => (channel.get("playing") ? start() : stop())),
  ];
  show();
  if (channel.get("playing")) start();
  return () => {
    stops.forEach((end) => end());
    clearTimeout(timer);
  };
}
