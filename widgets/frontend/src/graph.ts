// Drawings as data (see compact.py): boxes that many drawings share, arrows and frames, made into SVG here.
import { h, s } from "./dom";

const READABLE = 0.9; // a drawing that is wider than its frame is not made smaller than this: it scrolls

type Label = [x: number, y: number, anchor: string, text: string];
type Arrow = [tail: number, head: number, path: string, tip: [number, number] | null, label?: Label];
type Frame = [x0: number, y0: number, x1: number, y1: number, label: string, kind: string];
export interface Drawn {
  size: [number, number, number, number];
  boxes: [shape: number, x: number, y: number][];
  arrows: Arrow[];
  frames: Frame[];
}
export type Shape = [kind: string, markup: string];

/** The head of an arrow: a triangle from its end to its tip. */
export function head(path: string, tip: [number, number]): string {
  const [x, y] = path.split(/[ C]/).at(-1)!.replace("M", "").split(",").map(Number);
  const [dx, dy] = [tip[0] - x, tip[1] - y];
  const across = 3.2 / (Math.hypot(dx, dy) || 1);
  const corners = [tip, [x - dy * across, y + dx * across], [x + dy * across, y - dx * across]];
  return corners.map((p) => p.map((v) => v.toFixed(1)).join(",")).join(" ");
}

/** The markup of a shape is minigraph's own drawing, in which names are escaped; it is parsed as SVG, where no script runs. */
function shaped([kind, markup]: Shape, x: number, y: number): SVGGElement {
  const parsed = new DOMParser().parseFromString(`<svg xmlns="http://www.w3.org/2000/svg">${markup}</svg>`, "image/svg+xml");
  const g = s("g", { class: `mg-box mg-${kind.replace("mg-", "")}`, transform: `translate(${x},${y})` });
  g.append(...Array.from(parsed.documentElement.childNodes, (n) => document.importNode(n, true)));
  return g;
}

export interface GraphView {
  element: HTMLElement;
  boxes: SVGGElement[];
  scale(factor: number | "fit"): void;
  reveal(boxes: number[]): void;
}

/** A drawing in a frame that scrolls. Boxes can be clicked, and get the focus by Tab one at a time (roving). */
export function graphView(
  drawn: Drawn | null, words: string, shapes: Shape[], titles: string[], about: string[], label: string, choose: (box: number) => void,
): GraphView {
  const element = h("div", { class: "mgw-canvas", role: "group", "aria-label": label });
  if (!drawn) {
    element.append(h("pre", { class: "mgw-about" }, words));
    return { element, boxes: [], scale() {}, reveal() {} };
  }
  const [left, top, width, height] = drawn.size;
  const svg = s("svg", { class: "minigraph", viewBox: drawn.size.join(" "), width, height });
  svg.append(s("rect", { class: "mg-paper", x: left, y: top, width, height, rx: 6 }));
  for (const [x0, y0, x1, y1, text, kind] of drawn.frames) {
    const dash = kind === "graph" ? "6 4" : null;
    svg.append(s("g", { class: "mg-frame" },
      s("rect", { x: x0, y: y0, width: x1 - x0, height: y1 - y0, rx: 8, "stroke-dasharray": dash }),
      s("text", { x: x0 + 9, y: y0 + 16, "font-size": 11, "font-weight": 600 }, text)));
  }
  for (const [tail, to, path, tip, name] of drawn.arrows) {
    svg.append(s("g", { class: "mg-arrow", "data-tail": tail, "data-head": to },
      s("path", { d: path, "stroke-dasharray": tip ? null : "1.5 4" }),
      tip && s("polygon", { points: head(path, tip) }),
      name && s("text", { x: name[0], y: name[1], "font-size": 9.5, "text-anchor": name[2] }, name[3])));
  }
  const boxes = drawn.boxes.map(([shape, x, y], i) => {
    const g = shaped(shapes[shape], x, y);
    g.prepend(s("title", {}, about[i]));
    g.setAttribute("role", "button");
    g.setAttribute("aria-label", titles[i]);
    g.setAttribute("tabindex", i ? "-1" : "0");
    g.dataset.box = String(i);
    g.addEventListener("click", () => choose(i));
    return g;
  });
  svg.append(...boxes);
  element.append(svg);

  /** Enter chooses; arrows go to the next box in reading order. */
  element.addEventListener("keydown", (event) => {
    const at = boxes.indexOf((event.target as Element).closest(".mg-box") as SVGGElement);
    if (at < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Enter") choose(at);
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const order = drawn.boxes.map(([, x, y], i) => ({ i, x, y })).sort((a, b) => a.y - b.y || a.x - b.x);
      const to = order[order.findIndex((o) => o.i === at) + (event.key === "ArrowDown" ? 1 : -1)]?.i;
      if (to === undefined) return;
      boxes[at].setAttribute("tabindex", "-1");
      boxes[to].setAttribute("tabindex", "0");
      boxes[to].focus();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });

  let zoom = 0;
  return {
    element,
    boxes,
    scale(factor) {
      const room = element.clientWidth - 4;
      if (factor === "fit") zoom = room > 0 ? Math.min(1, Math.max(room / width, READABLE)) : 1;
      else zoom = Math.min(4, Math.max(0.2, zoom * factor));
      svg.style.width = `${width * zoom}px`;
      svg.style.height = `${height * zoom}px`;
    },
    reveal(wanted) {
      if (!wanted.length || !boxes.length) return;
      const frame = element.getBoundingClientRect();
      const all = wanted.map((i) => boxes[i].getBoundingClientRect());
      const [x, y] = [Math.min(...all.map((r) => r.left)), Math.min(...all.map((r) => r.top))];
      const [x1, y1] = [Math.max(...all.map((r) => r.right)), Math.max(...all.map((r) => r.bottom))];
      // in the middle if they fit, else from their beginning
      const along = (from: number, to: number, lo: number, hi: number) => (to - from < hi - lo - 20 ? (from + to - lo - hi) / 2 : from - lo - 12);
      if (y < frame.top || y1 > frame.bottom) element.scrollTop += along(y, y1, frame.top, frame.bottom);
      if (x < frame.left || x1 > frame.right) element.scrollLeft += along(x, x1, frame.left, frame.right);
    },
  };
}

/** A mark in the upper right corner of a box. */
export function badge(g: SVGGElement, text: string): void {
  g.querySelector(".mgw-badge")?.remove();
  if (!text || !("getBBox" in g)) return;
  const box = g.getBBox();
  const [x, y] = [box.x + box.width - 4, box.y + 4];
  g.append(s("g", { class: "mgw-badge", "aria-hidden": true },
    s("circle", { cx: x, cy: y, r: 8 }), s("text", { x, y: y + 4.5, "text-anchor": "middle", "font-size": 13 }, text)));
}
