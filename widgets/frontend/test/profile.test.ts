// @vitest-environment jsdom
import { beforeEach, describe, expect, it } from "vitest";
import { record } from "../src/channel";
import { limit, ordered, profile, type Profiled, type Row } from "../src/profile";

const row = (number: number, more: Partial<Row>): Row => ({
  number, name: "matmul", kind: "statement", result: "float32[2]", scope: "", line: "", members: ["matmul"], best: 1e-6, median: 1e-6, share: 0.2, flops: 1000, read: 100,
  written: 100, least: 1e-7, double: false, ...more,
});
const doc = (): Profiled => ({
  kind: "profile", title: "Profile of f", what: "3 steps", notes: [], language: "c", calls: 5, best: 1e-5, median: 1e-5, outside: 1e-6,
  rows: [row(0, {}), row(1, { name: "<b>add", kind: "kernel", best: 3e-6, share: 0.6, flops: 10 }), row(2, { name: "copy", flops: 0, read: 1e9, best: 2e-6 })],
  machine: { processor: "P", threads: 2, single: 1e11, double: 5e10, levels: [["L1", 1e5, 1e11], ["memory", null, 1e10]], tool: "C", product: "BLAS" },
});

describe("order", () => {
  const numbers = (key: string, reverse = false) => ordered(doc().rows, key, reverse).map((r) => r.number);
  it("is from the largest, words from A", () => {
    expect(numbers("best")).toEqual([1, 2, 0]);
    expect(numbers("best", true)).toEqual([0, 2, 1]);
    expect(numbers("name")).toEqual([1, 2, 0]);
    expect(numbers("number")).toEqual([0, 1, 2]);
    expect(numbers("bytes")).toEqual([2, 0, 1]);
  });
});

describe("what limits a step", () => {
  const { machine, rows } = doc();
  it("is its bytes, or its arithmetic", () => {
    expect(limit(machine!, rows[0])).toEqual({ level: "L1", by: "arithmetic" });
    expect(limit(machine!, rows[1])).toEqual({ level: "L1", by: "bytes" });
    expect(limit(machine!, rows[2])).toEqual({ level: "memory", by: "bytes" });
  });
});

describe("the profile", () => {
  let root: HTMLElement;
  let channel: ReturnType<typeof record>;
  const press = (...names: string[]) => names.forEach((key) => root.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true })));
  const cells = (n: number) => [...root.querySelectorAll(`tbody tr:nth-child(${n}) td`)].map((e) => e.textContent);
  const said = () => root.querySelector("[aria-live]")!.textContent!;

  beforeEach(() => {
    root = document.createElement("div");
    document.body.replaceChildren(root);
    channel = record({ document: doc(), selected: -1, sort: "best" });
    profile(root, channel);
  });

  it("lists the longest first, with names as text", () => {
    expect(cells(1).slice(0, 4)).toEqual(["2", "<b>add float32[2]", "kernel", "3 µs"]);
    expect(root.querySelector("b b")).toBeNull();
  });
  it("is sorted by its heads and by a key", () => {
    (root.querySelectorAll("th button")[5] as HTMLElement).click();
    expect(channel.get("sort")).toBe("flops");
    expect(root.querySelectorAll("th")[5].getAttribute("aria-sort")).toBe("descending");
    expect(cells(1)[0]).toBe("1");
    press("s");
    expect(channel.get("sort")).toBe("bytes");
    press("r");
    expect(root.querySelectorAll("th")[6].getAttribute("aria-sort")).toBe("ascending");
  });
  it("links table and roofline", () => {
    press("ArrowDown");
    expect(channel.get("selected")).toBe(1);
    expect(root.querySelector("tr[data-selected]")!.getAttribute("data-row")).toBe("1");
    expect(root.querySelector(".mgw-point[data-selected]")!.getAttribute("data-row")).toBe("1");
    expect(said()).toContain("bytes from L1 limit it");
    root.querySelector('.mgw-point[data-row="0"]')!.dispatchEvent(new MouseEvent("click", { bubbles: true }));
    expect(channel.get("selected")).toBe(0);
    expect(said()).toContain("arithmetic limits it");
    press("Escape");
    expect(root.querySelector("[data-selected]")).toBeNull();
  });
  it("leaves steps without arithmetic out of the roofline", () => {
    expect(root.querySelectorAll(".mgw-point").length).toBe(2);
    expect(root.textContent).toContain("1 step without arithmetic");
  });
  it("bears having no machine and no steps", () => {
    const empty = document.createElement("div");
    profile(empty, record({ document: { ...doc(), machine: null, rows: [] }, selected: -1, sort: "best" }));
    expect(empty.querySelector(".mgw-chart")).toBeNull();
    expect(empty.textContent).not.toContain("null");
  });
});
