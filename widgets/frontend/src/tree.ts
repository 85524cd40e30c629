// A graph as a tree of groups (see explorer.py): who lives where, what is visible when some groups are open, and what
// lies upstream and downstream of a choice.

export interface Fact {
  op: number; kind: "op" | "variable" | "input" | "error"; path: number; type: number;
  name?: number; scope?: number; bytes?: number; dtype?: number; device?: number; site?: number; code?: [number, number, number];
  inputs?: number[]; as?: number[]; attrs?: number[]; flops?: number; formula?: number; doc?: number;
  nested?: [string, number][]; value?: number; gradient?: number; norm?: number; seconds?: number;
}
export interface GroupData { name: string; kind: string; items: (number | GroupData)[]; times?: number }
/** As it is sent: which keys there are, and what they hold. */
export type Packed = [keys: number, ...values: any[]];
export const unpacked = (keys: string[][], [k, ...values]: Packed): Fact => Object.fromEntries(keys[k].map((name, i) => [name, values[i]])) as unknown as Fact;
export interface GraphData { name: string; nodes: Fact[]; tree: GroupData; outputs: number[]; inputs: number[] }

export interface Group {
  id: number; name: string; kind: string; times: number; path: string; parent: Group | null; depth: number;
  items: (number | Group)[]; operations: number;
}
export type Edge = [tail: number, head: number];

/** The key of a box: of a node or of a group. */
export const key = (item: number | Group): string => (typeof item === "number" ? `n${item}` : `g${item.id}`);

export class Tree {
  readonly groups: Group[] = [];
  readonly root: Group;
  readonly home: Group[] = [];
  readonly edges: Edge[] = [];
  readonly users: number[][];

  constructor(readonly graph: GraphData) {
    this.root = this.group(graph.tree, null);
    this.users = graph.nodes.map(() => []);
    graph.nodes.forEach((n, head) => {
      for (const tail of n.inputs ?? []) {
        this.edges.push([tail, head]);
        this.users[tail].push(head);
      }
    });
  }

  private group(data: GroupData, parent: Group | null): Group {
    const found: Group = {
      id: this.groups.length, name: data.name, kind: data.kind, times: data.times ?? 1, parent, operations: 0, items: [],
      path: parent ? `${parent.path}${data.name}/` : "", depth: parent ? parent.depth + 1 : 0,
    };
    if (parent && this.groups.some((g) => g.parent === parent && g.path === found.path)) found.path = `${found.path.slice(0, -1)}#${found.id}/`;
    this.groups.push(found);
    for (const item of data.items) {
      if (typeof item === "number") {
        this.home[item] = found;
        found.items.push(item);
        if (this.graph.nodes[item].kind === "op") found.operations += 1;
      } else {
        const inner = this.group(item, found);
        found.items.push(inner);
        found.operations += inner.operations;
      }
    }
    return found;
  }

  /** The element of `group` that holds a node: itself, a group below, or null if the node is elsewhere. */
  within(group: Group, node: number): number | Group | null {
    let at: Group | null = this.home[node];
    if (at === group) return node;
    while (at && at.parent !== group) at = at.parent;
    return at;
  }

  /** The box that stands for a node: the outermost closed group around it, or itself. */
  visible(node: number, open: Set<number>): number | Group {
    let found: number | Group = node;
    for (let at: Group | null = this.home[node]; at; at = at.parent) if (!open.has(at.id)) found = at;
    return found;
  }

  members(item: number | Group): number[] {
    return typeof item === "number" ? [item] : item.items.flatMap((i) => this.members(i));
  }

  /** All nodes that can be reached, against the arrows or along them. */
  reach(from: number[], upstream: boolean): Set<number> {
    const found = new Set<number>();
    const todo = [...from];
    while (todo.length) {
      const at = todo.pop()!;
      for (const next of upstream ? (this.graph.nodes[at].inputs ?? []) : this.users[at]) {
        if (found.has(next)) continue;
        found.add(next);
        todo.push(next);
      }
    }
    return found;
  }

  /** Opens groups, the outer ones first, while no more than `limit` boxes are visible. */
  opened(limit: number): Set<number> {
    const open = new Set([this.root.id]);
    let boxes = this.root.items.length;
    let level = this.root.items.filter((i) => typeof i !== "number") as Group[];
    while (level.length) {
      const next: Group[] = [];
      for (const g of [...level].sort((a, b) => a.items.length - b.items.length)) {
        if (boxes + g.items.length - 1 > limit) continue;
        boxes += g.items.length - 1;
        open.add(g.id);
        next.push(...(g.items.filter((i) => typeof i !== "number") as Group[]));
      }
      level = next;
    }
    return open;
  }

  /** Opens everything around a node. */
  reveal(item: number | Group, open: Set<number>): void {
    for (let at: Group | null = typeof item === "number" ? this.home[item] : item.parent; at; at = at.parent) open.add(at.id);
  }
}
