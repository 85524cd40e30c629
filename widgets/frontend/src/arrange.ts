// Where boxes stand. Each open group is laid out by itself (dagre: ranks, few crossings), inside out, so opening one
// costs what it holds and what is around it. An arrow that enters or leaves a group has a port at its upper or lower
// edge: a box without size in the layout inside, which a heavy edge keeps at the border.
import { Graph, layout } from "@dagrejs/dagre";
import { key, type Edge, type Group, type Tree } from "./tree";

export type Point = [x: number, y: number];
export interface Box { item: number | Group; x: number; y: number; width: number; height: number }
export interface Link { points: Point[]; edges: number[]; head: boolean }
export interface Arranged { boxes: Box[]; frames: Box[]; links: Link[]; width: number; height: number }
export type Size = (item: number | Group) => { width: number; height: number };

const PAD = 14; // around what a frame holds
const LABEL = 24; // for the name of a frame
const ROW = 44; // the height of a box
const DENSE = 3000; // arrows between boxes of one group; more are not routed

interface Placed extends Arranged { ports: Map<string, Point> }
/** An edge as a group sees it; an end outside has the key of the port it comes through. */
interface Crossing { edge: number; from: string | null; to: string | null }

export function arrange(tree: Tree, open: Set<number>, size: Size): Arranged {
  const all = tree.edges.map((_, edge): Crossing => ({ edge, from: null, to: null }));
  return place(tree, tree.root, all, open, size);
}

function place(tree: Tree, group: Group, crossings: Crossing[], open: Set<number>, size: Size): Placed {
  const ends = new Map<string, [from: string, to: string, edges: number[]]>();
  const inner = new Map<string, Crossing[]>();
  const hand = (box: string, c: Crossing) => inner.get(box)?.push(c);
  const isOpen = (item: number | Group): item is Group => typeof item !== "number" && open.has(item.id);
  for (const item of group.items) if (isOpen(item)) inner.set(key(item), []);
  for (const c of crossings) {
    const [tail, head]: Edge = tree.edges[c.edge];
    const from = c.from === null ? key(tree.within(group, tail)!) : `in ${c.from}`;
    const to = c.to === null ? key(tree.within(group, head)!) : `out ${c.to}`;
    if (from === to) {
      hand(from, { edge: c.edge, from: null, to: null });
      continue;
    }
    hand(from, { edge: c.edge, from: null, to });
    hand(to, { edge: c.edge, from, to: null });
    const name = `${from}|${to}`;
    if (!ends.has(name)) ends.set(name, [from, to, []]);
    ends.get(name)![2].push(c.edge);
  }

  const parts = new Map<string, Placed>();
  const g = new Graph({ multigraph: false, compound: false });
  g.setGraph({ rankdir: "TB", nodesep: 22, ranksep: 34, edgesep: 10, marginx: PAD, marginy: PAD });
  g.setDefaultEdgeLabel(() => ({}));
  for (const item of group.items) {
    if (isOpen(item)) {
      const part = place(tree, item, inner.get(key(item))!, open, size);
      parts.set(key(item), part);
      g.setNode(key(item), { width: part.width, height: part.height });
    } else g.setNode(key(item), { ...size(item) });
  }
  const routed = ends.size <= DENSE;
  for (const [from, to] of ends.values()) {
    for (const [port, border] of [[from, "in"], [to, "out"]]) {
      if (!port.startsWith(`${border} `) || g.hasNode(port)) continue;
      g.setNode(port, { width: 1, height: 1 });
      g.setNode(border, { width: 1, height: 1 });
      if (border === "in") g.setEdge(border, port, { weight: 40 });
      else g.setEdge(port, border, { weight: 40 });
    }
    if (routed) g.setEdge(from, to, {});
  }
  layout(g);

  // What stands inside decides the size of the frame: ports and borders need no room.
  const placed: Placed = { boxes: [], frames: [], links: [], ports: new Map(), width: 0, height: 0 };
  const real = group.items.map((item) => ({ item, ...(g.node(key(item)) as { x: number; y: number; width: number; height: number }) }));
  const bounds = (values: number[], best: (...v: number[]) => number, otherwise: number) => values.reduce((a, b) => best(a, b), values[0] ?? otherwise);
  const xs = g.edges().flatMap((e) => ((g.edge(e) as { points?: { x: number }[] }).points ?? []).map((p) => p.x));
  const left = bounds([...real.map((n) => n.x - n.width / 2), ...xs], Math.min, 0) - PAD;
  const right = bounds([...real.map((n) => n.x + n.width / 2), ...xs], Math.max, 0) + PAD;
  const top = bounds(real.map((n) => n.y - n.height / 2), Math.min, 0) - PAD - (group.parent ? LABEL : 0);
  const bottom = bounds(real.map((n) => n.y + n.height / 2), Math.max, 0) + PAD;
  [placed.width, placed.height] = [right - left, bottom - top];
  const corners = new Map<string, Point>();
  for (const n of real) {
    const [x, y] = [n.x - n.width / 2 - left, n.y - n.height / 2 - top];
    const part = parts.get(key(n.item));
    corners.set(key(n.item), [x, y]);
    const box = { item: n.item, x, y, width: n.width, height: n.height };
    if (!part) placed.boxes.push(box);
    else {
      placed.frames.push(box, ...part.frames.map((b) => ({ ...b, x: b.x + x, y: b.y + y })));
      placed.boxes.push(...part.boxes.map((b) => ({ ...b, x: b.x + x, y: b.y + y })));
      placed.links.push(...part.links.map((l) => ({ ...l, points: l.points.map(([px, py]): Point => [px + x, py + y]) })));
    }
  }
  /** Where an arrow touches an open group: at the port that belongs to its other end. */
  const touch = (box: string, port: string): Point | null => {
    const at = parts.get(box)?.ports.get(port);
    const corner = corners.get(box);
    return at && corner ? [at[0] + corner[0], at[1] + corner[1]] : null;
  };
  for (const border of ["in", "out"]) {
    for (const port of g.nodes().filter((n) => n.startsWith(`${border} `))) {
      placed.ports.set(port, [(g.node(port) as { x: number }).x - left, border === "in" ? 0 : placed.height]);
    }
  }
  for (const [from, to, edges] of ends.values()) {
    const given = routed ? ((g.edge(from, to) as { points?: { x: number; y: number }[] }).points ?? []) : [];
    let points = given.map((p): Point => [p.x - left, p.y - top]);
    if (!routed) points = [from, to].map((k): Point => [(g.node(k) as { x: number }).x - left, (g.node(k) as { y: number }).y - top]);
    const start = placed.ports.get(from) ?? touch(from, `out ${to}`);
    const end = placed.ports.get(to) ?? touch(to, `in ${from}`);
    // Where a frame is crossed, dagre's bend between neighbours was meant for its middle.
    if ((start || end) && points.length === 3) points = [points[0], points[2]];
    if (start) points[0] = start;
    if (end) points[points.length - 1] = end;
    // From the border straight past the boxes of the first row, and to it past those of the last.
    const row = (port: string) => (g.node(port) as { y: number }).y - top;
    if (placed.ports.has(from)) points.splice(1, 0, [points[0][0], row(from) + ROW / 2]);
    if (placed.ports.has(to)) points.splice(-1, 0, [points.at(-1)![0], row(to) - ROW / 2]);
    placed.links.push({ points, edges, head: !placed.ports.has(to) && !parts.has(to) });
  }
  return placed;
}

/** A smooth line through points: straight at its ends, rounded at the corners. */
export function line(points: Point[]): string {
  const text = ([x, y]: Point) => `${x.toFixed(1)},${y.toFixed(1)}`;
  const middle = ([a, b]: Point, [c, d]: Point): Point => [(a + c) / 2, (b + d) / 2];
  let path = `M${text(points[0])}`;
  for (let i = 1; i < points.length - 1; i++) {
    const to = i === points.length - 2 ? points[i + 1] : middle(points[i], points[i + 1]);
    path += `Q${text(points[i])} ${text(to)}`;
  }
  return points.length > 2 ? path : `${path}L${text(points[points.length - 1])}`;
}
