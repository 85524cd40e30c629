// @vitest-environment jsdom
import { beforeEach, describe, expect, it } from "vitest";
import { record } from "../src/channel";
import { bytes, duration, fitting, inBytes, quantity } from "../src/chart";
import { alive, before, memory, type Timeline } from "../src/memory";
import { scaleLinear } from "d3-scale";

function timeline(): Timeline {
  const steps: [number, number, number][] = [[0, 3, 3], [1, 3, 3], [2, 3, 3]];
  return {
    kind: "memory", title: "The memory of f", what: "3 results", notes: [], texts: ["matmul", "exp", "<b>sum", "", "float32[4]"],
    variants: [
      { name: "planned", what: "one arena", arena: 128, peak: 128, top: 132, bound: 128, curve: [64, 128, 68], steps,
        lives: [[0, 4, 64, 0, 1, 0, 0, -1, 0, 0], [1, 4, 64, 1, 2, 64, 0, -1, 0, 0], [1, 4, 64, 2, 2, 0, 0, -1, 1, 0], [2, 4, 4, 2, 2, 128, 1, -1, 0, 1]] },
      { name: "every value kept", what: "no plan", arena: 0, peak: 132, top: 132, bound: 132, curve: [64, 128, 132], steps,
        lives: [[0, 4, 64, 0, 2, 0, 2, -1, 0, 1], [1, 4, 64, 1, 2, 64, 2, -1, 0, 1], [2, 4, 4, 2, 2, 128, 2, -1, 0, 1]] },
    ],
  };
}

describe("numbers", () => {
  it("have units", () => {
    expect([bytes(0), bytes(2048), bytes(235_560)]).toEqual(["0 B", "2 KiB", "230 KiB"]);
    expect([quantity(2_097_152, "FLOP"), quantity(3.21e-5, "s"), quantity(0, "s"), quantity(15, "")]).toEqual(["2.1 MFLOP", "32.1 µs", "0 s", "15"]);
    expect([duration(8.2), duration(125), duration(3780)]).toEqual(["8 s", "2 min 5 s", "1 h 3 min"]);
  });
  it("of bytes stand at powers of two", () => expect(inBytes(scaleLinear([0, 235_560], [0, 1])).ticks(4)).toEqual([0, 65536, 131072, 196608]));
  it("and words fit", () => expect([fitting("matmul", 60), fitting("matmul", 30), fitting("matmul", 9)]).toEqual(["matmul", "mat…", ""]));
});

describe("what is alive", () => {
  const v = timeline().variants[0];
  it("is in the order of addresses", () => expect([alive(v, 0), alive(v, 1), alive(v, 2)]).toEqual([[0], [0, 1], [2, 1, 3]]));
  it("had others in its place before", () => {
    expect(before(v, 2)).toBe(0);
    expect(before(v, 1)).toBe(-1);
  });
});

describe("the timeline", () => {
  let root: HTMLElement;
  let channel: ReturnType<typeof record>;
  const press = (...names: string[]) => names.forEach((key) => root.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true })));
  const said = () => root.querySelector("[aria-live]")!.textContent!;

  beforeEach(() => {
    root = document.createElement("div");
    document.body.replaceChildren(root);
    channel = record({ document: timeline(), variant: 0, step: 1, selected: "" });
    memory(root, channel);
  });

  it("says what is alive at a step, and where the peak is", () => {
    expect(said()).toContain("step 2 of 3, exp: 128 B alive in 2 values, the most at any step");
    press("ArrowRight");
    expect(said()).toContain("68 B alive in 3 values.");
    press("p");
    expect(channel.get("step")).toBe(1);
  });
  it("goes through the values with the keyboard", () => {
    press("End", "ArrowUp");
    expect(said()).toContain("the place of matmul before; computed a second time");
    expect(channel.get("selected")).toBe("exp");
    expect(root.querySelectorAll("[data-selected]").length).toBe(1);
    press("ArrowDown");
    expect(said()).toContain("<b>sum");
    expect(root.querySelector("b")).toBeNull();
    press("Escape");
    expect(root.querySelectorAll("[data-selected]").length).toBe(0);
  });
  it("changes between ways to use memory, and shows them side by side", () => {
    press("v");
    expect(channel.get("variant")).toBe(1);
    expect(root.querySelectorAll(".mgw-life").length).toBe(3);
    press("b");
    expect(root.querySelectorAll("section").length).toBe(2);
    expect(root.querySelectorAll(".mgw-life").length).toBe(7);
  });
  it("zooms", () => {
    const wide = () => Number(root.querySelector(".mgw-chart")!.getAttribute("width"));
    const first = wide();
    press("+");
    expect(wide()).toBeGreaterThan(first * 1.4);
    press("0");
    expect(wide()).toBe(first);
  });
  it("bears having no steps", () => {
    const doc = timeline();
    Object.assign(doc.variants[0], { steps: [], lives: [], curve: [], bound: 0, top: 0, peak: 0 });
    memory(document.createElement("div"), record({ document: doc, variant: 0, step: 0, selected: "" }));
  });
});
