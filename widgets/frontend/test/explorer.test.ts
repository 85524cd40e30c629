// @vitest-environment jsdom
import { beforeEach, describe, expect, it } from "vitest";
import { arrange, line, type Box } from "../src/arrange";
import { record } from "../src/channel";
import { explorer, short } from "../src/explorer";
import { Tree, key, unpacked, type GraphData, type GroupData } from "../src/tree";

const size = (item: unknown) => ({ width: typeof item === "number" ? 60 : 90, height: 44 });

/** A graph whose nodes have these inputs, in this tree. */
function graph(inputs: number[][], tree: GroupData): GraphData {
  const nodes = inputs.map((i, k) => ({ op: k, kind: i.length ? "op" : "input", path: k, type: 0, inputs: i }) as GraphData["nodes"][0]);
  return { name: "g", nodes, tree, outputs: [], inputs: [] };
}
const group = (name: string, ...items: (number | GroupData)[]): GroupData => ({ name, kind: "Block", items });
//  0 → 1 → 2 → 3 → 5, 0 → 4 → 5; 1 and 2 in a, 3 in a/b
const SMALL = () => graph([[], [0], [1], [2], [0], [3, 4]], group("", 0, group("a", 1, 2, group("b", 3)), 4, 5));

describe("the tree", () => {
  it("knows which box stands for a node", () => {
    const t = new Tree(SMALL());
    const [a, b] = [t.groups[1], t.groups[2]];
    expect(t.visible(3, new Set([0]))).toBe(a);
    expect(t.visible(3, new Set([0, a.id]))).toBe(b);
    expect(t.visible(3, new Set([0, b.id]))).toBe(a); // what is open in a closed group is not seen
    expect(t.visible(3, new Set([0, a.id, b.id]))).toBe(3);
    expect(t.within(t.root, 3)).toBe(a);
    expect(t.within(a, 5)).toBeNull();
    expect([a.path, b.path, a.operations]).toEqual(["a/", "a/b/", 3]);
  });
  it("reaches upstream and downstream", () => {
    const t = new Tree(SMALL());
    expect([...t.reach([3], true)].sort()).toEqual([0, 1, 2]);
    expect([...t.reach([2], false)].sort()).toEqual([3, 5]);
  });
  it("opens what fits", () => {
    const t = new Tree(SMALL());
    expect(t.opened(4).size).toBe(1);
    expect(t.opened(6).size).toBe(3);
  });
  it("gives groups with one name paths of their own", () => {
    const t = new Tree(graph([[], []], group("", group("a", 0), group("a", 1))));
    expect(t.groups[1].path).not.toBe(t.groups[2].path);
  });
  it("unpacks facts", () => {
    expect(unpacked([["op"], ["op", "inputs"]], [1, 7, [3]])).toEqual({ op: 7, inputs: [3] });
  });
});

const apart = (a: Box, b: Box) => a.x + a.width <= b.x + 0.01 || b.x + b.width <= a.x + 0.01 || a.y + a.height <= b.y + 0.01 || b.y + b.height <= a.y + 0.01;

describe("the layout", () => {
  /** A random graph in a random tree. */
  function random(seed: number): GraphData {
    let state = seed;
    const next = (n: number) => (state = (state * 1103515245 + 12345) % 2 ** 31) % n;
    const count = 8 + next(30);
    const inputs = Array.from({ length: count }, (_, k) => (k ? Array.from({ length: 1 + next(2) }, () => next(k)) : []));
    const build = (from: number, to: number, depth: number): GroupData => {
      const items: (number | GroupData)[] = [];
      for (let k = from; k < to; ) {
        const length = 2 + next(5);
        if (depth < 3 && next(3) === 0 && k + length < to) {
          items.push({ ...build(k, k + length, depth + 1), name: `g${k}` });
          k += length;
        } else items.push(k++);
      }
      return group("", ...items);
    };
    return graph(inputs, build(0, count, 0));
  }
  it.each(Array.from({ length: 25 }, (_, k) => [k * 7919 + 1]))("keeps boxes apart, inside their frames, and arrows downwards (%i)", (seed) => {
    const t = new Tree(random(seed));
    const open = new Set(t.groups.filter((g) => !g.parent || (g.id * seed) % 3).map((g) => g.id));
    const found = arrange(t, open, size);
    const seen = new Set(t.graph.nodes.map((_, n) => key(t.visible(n, open))));
    expect(new Set(found.boxes.map((b) => key(b.item)))).toEqual(seen);
    found.boxes.forEach((a, i) => found.boxes.slice(i + 1).forEach((b) => expect(apart(a, b)).toBe(true)));
    for (const f of found.frames) {
      for (const b of found.boxes) {
        const inside = t.members(f.item).includes(t.members(b.item)[0]);
        const within = b.x >= f.x && b.y >= f.y && b.x + b.width <= f.x + f.width && b.y + b.height <= f.y + f.height;
        expect(inside ? within : apart(f, b)).toBe(true);
      }
    }
    for (const { points } of found.links) {
      points.forEach(([x, y]) => expect(x > -1 && y > -1 && x < found.width + 1 && y < found.height + 1).toBe(true));
      expect(points[0][1]).toBeLessThanOrEqual(points.at(-1)![1] + 0.01);
    }
  });
  it("draws every arrow that is not inside of a closed box", () => {
    const t = new Tree(SMALL());
    const shown = (open: number[]) => new Set(arrange(t, new Set(open), size).links.flatMap((l) => l.edges)).size;
    expect([shown([0]), shown([0, 1]), shown([0, 1, 2])]).toEqual([4, 6, 6]);
  });
  it("joins the pieces of an arrow that enters a frame", () => {
    const t = new Tree(SMALL());
    const pieces = arrange(t, new Set([0, 1, 2]), size).links.filter((l) => l.edges.includes(2)).map((l) => l.points); // 2 → 3
    expect(pieces.length).toBe(2);
    const ends = pieces.flatMap((p) => [p[0], p.at(-1)!]).map((p) => p.map((v) => v.toFixed(1)).join());
    expect(new Set(ends).size).toBe(3); // one end is common
  });
  it("writes lines", () => {
    expect(line([[0, 0], [0, 10]])).toBe("M0.0,0.0L0.0,10.0");
    expect(line([[0, 0], [0, 10], [10, 20]])).toBe("M0.0,0.0Q0.0,10.0 10.0,20.0");
  });
});

describe("quantities", () => {
  it.each([[1536, "B", "1.5 KiB"], [0, "s", "0 s"], [2.5e-6, "s", "2.5 µs"], [1_540_000, "", "1.54 M"], [0.125, "", "0.125"]])("%d%s is %s", (v, unit, text) => {
    expect(short(v, unit)).toBe(text);
  });
});

describe("the view", () => {
  let root: HTMLElement;
  beforeEach(() => {
    document.body.replaceChildren((root = document.createElement("div")));
  });
  const EVIL = '<img src=x onerror="globalThis.broken=1">';
  function shown(reader: Record<string, unknown> = {}) {
    const nodes: unknown[] = SMALL().nodes.map((n) => [0, n.op, n.kind, n.path, n.type, n.inputs]);
    const inner = [[0, 1, "op", 1, 0, []]];
    nodes[5] = [1, 5, "op", 5, 0, [3, 4], [["body", 1]]];
    const channel = record({
      document: {
        graphs: [{ ...SMALL(), nodes }, { name: "inner", nodes: inner, tree: group("", 0), outputs: [], inputs: [] }],
        keys: [["op", "kind", "path", "type", "inputs"], ["op", "kind", "path", "type", "inputs", "nested"]],
        texts: [EVIL, "one", "two", "three", "four", "five"], values: [], error: "", notes: [],
      },
      selected: "", colour: "kind", unfolded: null, ...reader,
    });
    explorer(root, channel);
    return channel;
  }
  const press = (k: string) => root.dispatchEvent(new KeyboardEvent("keydown", { key: k, bubbles: true }));
  const names = () => [...root.querySelectorAll(".mgw-node .mgw-name")].map((e) => e.textContent);

  it("never parses names", () => {
    shown();
    expect(names()).toContain(`${EVIL.slice(0, 33)}…`);
    expect(root.querySelector("img")).toBeNull();
  });
  it("folds, unfolds and remembers", () => {
    const channel = shown({ unfolded: [] });
    expect(names().sort()).toEqual(["a", "five", "four", `${EVIL.slice(0, 33)}…`].sort());
    root.querySelector('[data-key="g1"]')!.dispatchEvent(new MouseEvent("dblclick", { bubbles: true }));
    expect(names()).toContain("one");
    expect(channel.get("unfolded")).toEqual(["a/"]);
    press("o");
    expect(names()).toContain("three");
    press("f");
    expect(names()).not.toContain("one");
    channel.set("unfolded", ["a/", "a/b/"]);
    expect(names()).toContain("three");
  });
  it("selects both ways, and opens what hides the selection", () => {
    const channel = shown({ unfolded: [] });
    channel.set("selected", "three");
    expect(root.querySelector(".mgw-node[data-selected] .mgw-name")!.textContent).toBe("three");
    expect(root.querySelector('[data-key="n5"]')!.getAttribute("data-state")).toBe("down");
    expect(root.querySelector('[data-key="n4"]')!.getAttribute("data-state")).toBe("dim");
    press("ArrowUp");
    expect(channel.get("selected")).toBe("two");
    press("Escape");
    expect(channel.get("selected")).toBe("");
  });
  it("searches in what is folded", () => {
    shown({ unfolded: [] });
    const field = root.querySelector<HTMLInputElement>("input[type=search]")!;
    field.value = "thr";
    field.dispatchEvent(new Event("input"));
    expect(root.querySelector('[data-key="g1"]')!.hasAttribute("data-found")).toBe(true);
    field.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter" }));
    expect(root.querySelector(".mgw-node[data-selected] .mgw-name")!.textContent).toBe("three");
  });
  it("enters a graph inside of a node, and comes back", () => {
    const channel = shown();
    channel.set("selected", "five");
    press("Enter");
    expect(names()).toEqual(["one"]);
    expect(root.querySelector(".mgw-crumbs")!.textContent).toContain("inner");
    press("Escape");
    expect(channel.get("selected")).toBe("five");
  });
});
