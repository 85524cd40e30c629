// @vitest-environment jsdom
import { beforeEach, describe, expect, it, vi } from "vitest";
import { record, type Channel } from "../src/channel";
import { codeLines, tokens } from "../src/code";
import { head, type Shape } from "../src/graph";
import { boxesOf, bytes, halves, passes, spans, type Explored } from "../src/passes";

const EVIL = '<img src=x onerror="alert(1)">';
const SHAPES: Shape[] = [["mg-op", "<rect/><g><text>exp</text></g>"], ["mg-input", `<rect/><g><text>${EVIL.replaceAll("<", "&lt;")}</text></g>`]];

/** x, then x * 1, then exp; the first pass removes the product, the second does nothing. */
function explored(): Explored {
  const graph = (boxes: [number, number, number][]) => ({
    drawing: { size: [-8, -8, 100, 200] as [number, number, number, number], boxes, arrows: [[0, 1, "M0,0C0,1 0,2 0,3", [0, 8], [4, 4, "start", "x1"]] as any], frames: [] },
    words: "", nodes: boxes.length, bytes: 2048, peak: 1024, titles: boxes.map(([shape]) => (shape ? 1 : 0)), about: boxes.map(() => 2), notes: [],
  });
  return {
    kind: "passes", title: "What the optimiser does to f", what: "2 passes", style: "", shapes: SHAPES,
    graphs: [graph([[1, 0, 0], [0, 0, 50], [0, 0, 100]]), graph([[1, 0, 0], [0, 0, 50]])],
    passes: [
      { name: "simplify", before: 0, after: 1, number: 1, counts: { removed: 1, added: 0, merged: 0, rewritten: 0 },
        marks: [{ 1: ["removed", 0] }, { 0: ["", 0] }],
        changes: [{ kind: "removed", rule: 3, before: [1], after: [0], here: "x * 1 → x", line: 4 }] },
      { name: "reduce_strength", before: 1, after: 1, marks: [{}, {}], changes: [] },
    ],
    code: { graph: 1, language: "python", text: "def run(x):\n    t = exp(x)  # 1.5\n    return [t]\n", links: [[1, 1, 1, 4]] },
    costs: { all: { nodes: 2, calls: 1, kernels: 0, peak: 1024, arena: 0 }, alone: [{ nodes: 3, calls: 2, kernels: 0, peak: 2048, arena: 0 }, { nodes: 2, calls: 1, kernels: 0, peak: 1024, arena: 0 }] },
    texts: ["exp", EVIL, "all about it", "x * 1 -> x", "train.py:3: y = exp(x * 1)"],
  };
}

let root: HTMLElement;
let channel: Channel;
const all = <E extends Element = HTMLElement>(selector: string): E[] => [...root.querySelectorAll<E>(selector)];
const status = () => root.querySelector(".mgw-status")!.textContent!;
const press = (key: string, at: Element = root) => at.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
const boxes = (side: number) => [...all(".mgw-canvas")[side].querySelectorAll<SVGGElement>(".mg-box")];

function start(more: Partial<Channel> = {}, document_ = explored()): void {
  document.body.replaceChildren();
  root = document.body.appendChild(document.createElement("div"));
  channel = { ...record({ document: document_, picture: "", step: 0, off: [], selected: "" }), ...more };
  passes(root, channel);
}

describe("small parts", () => {
  it("writes bytes, spans of lines and rules", () => {
    expect([0, 1023, 1024, 10_240, 3_500_000].map(bytes)).toEqual(["0 B", "1023 B", "1 KiB", "10 KiB", "3.338 MiB"]);
    expect(spans([4, 2, 3, 8, 3])).toBe("3 to 5, 9");
    expect(halves("a -> b -> c")).toEqual(["a", "b -> c"]);
    expect(halves("constant")).toEqual(["constant", ""]);
  });
  it("points the head of an arrow at its tip", () => {
    expect(head("M0,0C0,1 0,2 0,10", [0, 20])).toBe("0.0,20.0 -3.2,10.0 3.2,10.0");
  });
  it("finds the boxes of changes, also of those that only a mark mentions", () => {
    const pass = explored().passes[0];
    pass.marks[0][2] = ["removed", 0];
    expect(boxesOf(pass, [0]).map((s) => [...s])).toEqual([[1, 2], [0]]);
    expect(boxesOf(pass, [])).toEqual([new Set(), new Set()]);
  });
});

describe("colours of code", () => {
  const kinds = (line: string, language: string) => tokens(line, language).filter((t) => t.kind).map((t) => `${t.kind} ${t.text}`);
  it("of C", () => {
    expect(kinds("  float t0 = in0[i] * 2.5e-3f; // twice", "c")).toEqual(["word float", "number 2.5e-3f", "comment // twice"]);
    expect(kinds("#pragma omp simd", "c")).toEqual(["directive #pragma omp simd"]);
    expect(kinds('nan("x // y") + 0x101', "c")).toEqual(['string "x // y"', "number 0x101"]);
    expect(kinds("k0_for_int(p);", "c")).toEqual([]);
  });
  it("of Python", () => {
    expect(kinds("    t4 = item(t3, index=0)  # float32[]", "python")).toEqual(["number 0", "comment # float32[]"]);
    expect(kinds("        del t3", "python")).toEqual(["word del"]);
  });
  it("of comments over lines, and it loses no character", () => {
    const text = "int a; \n/* one\n for two */\nfor (;;) {}\n";
    const lines = codeLines(text, "c");
    expect(lines.map((l) => l.querySelector("code")!.textContent).join("\n")).toBe(text.trimEnd());
    expect(lines[2].querySelector(".mgw-word")).toBeNull();
    expect(lines[3].querySelector(".mgw-word")!.textContent).toBe("for");
  });
});

describe("the pass explorer", () => {
  beforeEach(() => start());

  it("has a step for each pass and one for the code; passes that changed nothing are told apart", () => {
    expect(all(".mgw-step strong").map((e) => e.textContent)).toEqual(["simplify", "reduce strength", "code"]);
    expect(all(".mgw-pipeline li").map((e) => e.classList.contains("mgw-quiet"))).toEqual([false, true, false]);
    expect(all(".mgw-step")[0].textContent).toContain("3 → 2 nodes");
    expect(all(".mgw-step")[0].getAttribute("aria-current")).toBe("step");
  });
  it("marks boxes, and says so in the legend", () => {
    expect(boxes(0).map((g) => g.dataset.mark)).toEqual([undefined, "removed", undefined]);
    expect(boxes(1).map((g) => g.dataset.mark)).toEqual([undefined, undefined]);
    expect(all(".mgw-key").map((e) => e.textContent)).toEqual(["− removed 1"]);
    expect(status()).toBe("simplify, pass 1 of 2: 3 nodes before, 2 after; nodes 1 removed.");
  });
  it("goes through steps by keys and clicks, and stays inside", () => {
    press("ArrowLeft");
    expect(channel.get("step")).toBe(0);
    press("ArrowRight");
    expect(status()).toContain("nothing changed");
    press("End");
    press("ArrowRight");
    expect(channel.get("step")).toBe(2);
    expect(status()).toBe("The generated Python: 3 lines beside the graph of 2 nodes.");
    all(".mgw-step")[0].click();
    expect(channel.get("step")).toBe(0);
    channel.set("step", 1);
    expect(root.dataset.step).toBe("1");
  });
  it("shows the boxes of a change in both graphs, and the rule, its replacement and the line", () => {
    press("ArrowDown");
    expect(boxes(0).map((g) => g.hasAttribute("data-selected"))).toEqual([false, true, false]);
    expect(boxes(1).map((g) => g.hasAttribute("data-selected"))).toEqual([true, false]);
    expect(all(".mgw-change code").map((e) => e.textContent)).toEqual(["x * 1", "x", "x * 1 → x", "train.py:3: y = exp(x * 1)"]);
    expect(status()).toBe("Change 1 of 1, removed: x * 1 becomes x; here x * 1 becomes x; train.py:3: y = exp(x * 1).");
    expect(channel.get("selected")).toBe("x * 1 -> x");
    press("Escape");
    expect(boxes(0).some((g) => g.hasAttribute("data-selected"))).toBe(false);
  });
  it("lists the changes of a box that is clicked", () => {
    boxes(0)[1].dispatchEvent(new MouseEvent("click", { bubbles: true }));
    expect(all(".mgw-change")[0].hasAttribute("data-about")).toBe(true);
    expect(status()).toBe("exp, removed: x * 1 -> x.");
    boxes(0)[2].dispatchEvent(new MouseEvent("click", { bubbles: true }));
    expect(all(".mgw-change")[0].hasAttribute("data-about")).toBe(false);
    expect(status()).toBe("exp: this pass leaves it as it is.");
  });
  it("is walked through box by box with the keyboard", () => {
    boxes(0)[0].focus();
    press("ArrowDown", boxes(0)[0]);
    expect(document.activeElement).toBe(boxes(0)[1]);
    press("Enter", boxes(0)[1]);
    expect(status()).toBe("exp, removed: x * 1 -> x.");
    expect(boxes(0).map((g) => g.getAttribute("tabindex"))).toEqual(["-1", "0", "-1"]);
  });
  it("links code and graph both ways", () => {
    press("End");
    all(".mgw-code-line")[1].click();
    expect(boxes(0).map((g) => g.hasAttribute("data-selected"))).toEqual([false, true]);
    expect(status()).toBe("Line 2 computes exp; from train.py:3: y = exp(x * 1).");
    boxes(0)[1].dispatchEvent(new MouseEvent("click", { bubbles: true }));
    expect(all(".mgw-code-line").map((l) => l.hasAttribute("data-selected"))).toEqual([false, true, false]);
    expect(status()).toContain("exp: lines 2; from train.py:3");
    all(".mgw-code-line")[2].click();
    expect(status()).toBe("Line 3 belongs to no node.");
    press("ArrowUp");
    expect(status()).toContain("Line 2");
  });
  it("finds nodes by name in both graphs", () => {
    const find = root.querySelector<HTMLInputElement>("input[type=search]")!;
    press("/");
    expect(document.activeElement).toBe(find);
    find.value = "EXP";
    find.dispatchEvent(new Event("input"));
    expect(all(".mg-box[data-found]").length).toBe(3);
    expect(status()).toContain("3 nodes");
  });
  it("treats names as text", () => {
    expect(root.querySelector("img")).toBeNull();
    expect(boxes(0)[0].getAttribute("aria-label")).toBe(EVIL);
    expect(boxes(0)[0].querySelector("text")!.textContent).toBe(EVIL);
  });
  it("shows words where there is no drawing", () => {
    const document_ = explored();
    document_.graphs[0] = { ...document_.graphs[0], drawing: null, words: "0  input: x", notes: ["there is no Graphviz"] };
    start({}, document_);
    expect(all(".mgw-canvas pre")[0].textContent).toBe("0  input: x");
    expect(root.textContent).toContain("there is no Graphviz");
    press("ArrowDown");
    expect(boxes(1)[0].hasAttribute("data-selected")).toBe(true);
  });
});

describe("turning passes off", () => {
  const price = () => root.querySelector(".mgw-price")!.textContent!;
  it("without a kernel: a single pass from the table, several not", () => {
    start();
    expect(price()).toBe("");
    press("x");
    expect(channel.get("off")).toEqual([0]);
    expect(price()).toContain("Without simplify");
    expect(price()).toContain("2 → 3");
    expect(price()).toContain("1 KiB → 2 KiB");
    all<HTMLInputElement>("input[type=checkbox]")[1].click();
    expect(price()).toContain("a notebook with a kernel");
    all(".mgw-price button")[0].click();
    expect(price()).toBe("");
    expect(all<HTMLInputElement>("input[type=checkbox]").every((b) => b.checked)).toBe(true);
  });
  it("with a kernel: it is asked, and only the answer to the last question counts", () => {
    const send = vi.fn();
    let answer: (message: any) => void = () => {};
    start({ send, onMessage: (call) => ((answer = (m) => call(m, [])), () => {}) });
    press("x");
    expect(send).toHaveBeenCalledWith({ off: [0] });
    expect(price()).toContain("measuring");
    channel.set("off", [0, 1]);
    answer({ off: [0], nodes: 3, peak: 2048, time: 9 });
    expect(price()).not.toContain("9.00");
    answer({ off: [0, 1], nodes: 4, peak: 2048, time: 1.5 });
    expect(price()).toContain("1.50 × as long");
    channel.set("off", [1]);
    answer({ off: [1], error: "ValueError: no" });
    expect(price()).toContain("ValueError: no");
  });
});
