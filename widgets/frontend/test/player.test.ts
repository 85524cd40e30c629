// @vitest-environment jsdom
import { beforeEach, describe, expect, it } from "vitest";
import { record } from "../src/channel";
import { phases, player, stateAt, type Film } from "../src/player";
import { colour } from "../src/values";

const PICTURE = `<svg class="minigraph" viewBox="0 0 9 9">
  <g class="mg-arrow" data-tail="n0" data-head="n1"><path d="M0,0L1,1"/></g>
  <g class="mg-arrow" data-tail="n0" data-head="n1"><path d="M0,0L1,1"/></g>
  <g class="mg-box mg-input" data-node="n0"><text>x</text><text class="mg-slot"></text><text class="mg-slot"></text></g>
  <g class="mg-box mg-op" data-node="n1"><text>square</text><text class="mg-slot"></text><text class="mg-slot"></text></g></svg>`;

function film(): Film {
  const value = (text: string) => ({ text, type: "float32[]", numbers: [text] });
  return {
    kind: "player", title: "Propagation", what: "1 operation", error: "", notes: [], rounds: [0],
    boxes: {
      n0: { title: "x", kind: "input", about: "input x", leaf: true },
      n1: { title: "square", kind: "op", about: "operation square", leaf: false },
    },
    values: [value("3"), value("9"), value("1"), value("0"), value("6")],
    frames: [
      { phase: "inputs", box: "", what: "start", say: "start", start: [["n0", 0]] },
      { phase: "loss", box: "n1", what: "value", say: "square is 9", value: 1, along: [["n0", "n1", 0], ["n0", "n1", 1]] },
      { phase: "backward", box: "n1", what: "gradient", say: "1 arrives", value: 2, came: [],
        parts: [{ along: ["n0", "n1", 1], value: 4, to: "x" }] },
      { phase: "accumulate", box: "n0", what: "accumulate", say: "grad 6", value: 4, came: [] },
    ],
  };
}

describe("what is to be seen at a frame", () => {
  it("follows from the frames of its round", () => {
    const f = film();
    expect([...stateAt(f, 1).value]).toEqual([["n0", 0], ["n1", 1]]);
    expect(stateAt(f, 1).gradient.size).toBe(0);
    expect([...stateAt(f, 3).gradient]).toEqual([["n1", 2], ["n0", 4]]);
  });
  it("starts anew with each round", () => {
    const f = film();
    f.frames.push({ ...f.frames[0] }, { ...f.frames[1] });
    f.rounds.push(4);
    expect(stateAt(f, 4).gradient.size).toBe(0);
    expect(stateAt(f, 4).value.has("n1")).toBe(false);
    expect(phases(f).map((p) => [p.phase, p.round])).toEqual([
      ["inputs", 0], ["loss", 0], ["backward", 0], ["accumulate", 0], ["inputs", 1], ["loss", 1],
    ]);
  });
});

describe("the player", () => {
  let root: HTMLElement;
  let channel: ReturnType<typeof record>;
  const press = (key: string, target: Element = root) =>
    target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
  const slots = (id: string) => [...root.querySelectorAll(`[data-node=${id}] .mg-slot`)].map((e) => e.textContent);

  beforeEach(() => {
    document.body.replaceChildren();
    root = document.createElement("div");
    document.body.append(root);
    channel = record({ document: film(), picture: PICTURE, step: 0, selected: "", playing: false });
    player(root, channel);
  });

  it("says that nothing has arrived, which is not 0", () => {
    expect(slots("n0")).toEqual(["3", "no grad yet"]);
    expect(slots("n1")).toEqual(["…", "no grad yet"]);
  });
  it("steps with the arrow keys, and stops at both ends", () => {
    press("ArrowLeft");
    expect(channel.get("step")).toBe(0);
    for (let i = 0; i < 9; i++) press("ArrowRight");
    expect(channel.get("step")).toBe(3);
    expect(slots("n0")).toEqual(["3", "grad 6"]);
    press("Home");
    expect(channel.get("step")).toBe(0);
  });
  it("goes from phase to phase", () => {
    press("ArrowDown");
    press("ArrowDown");
    expect(root.querySelector("[aria-current=step]")!.textContent).toContain("backward");
    expect(root.querySelector<SVGElement>("[data-node=n1]")!.dataset.state).toBe("backward");
  });
  it("marks the very arrow along which a gradient travels", () => {
    channel.set("step", 2);
    expect([...root.querySelectorAll<SVGElement>(".mg-arrow")].map((a) => a.dataset.flow)).toEqual(["", "backward"]);
  });
  it("selects by click, by Enter and by search, and lets go with Escape", () => {
    root.querySelector("[data-node=n1]")!.dispatchEvent(new MouseEvent("click", { bubbles: true }));
    expect(channel.get("selected")).toBe("square");
    press("Escape");
    expect(channel.get("selected")).toBe("");
    const find = root.querySelector<HTMLInputElement>("input[type=search]")!;
    press("/");
    expect(document.activeElement).toBe(find);
    find.value = "x";
    find.dispatchEvent(new Event("input"));
    expect(channel.get("selected")).toBe("x");
    press("ArrowRight", find);
    expect(channel.get("step")).toBe(0); // somebody who types does not step
  });
  it("speaks", () => {
    channel.set("step", 1);
    const status = root.querySelector("[role=status]")!;
    expect([status.getAttribute("aria-live"), status.textContent]).toEqual(["polite", "square is 9"]);
  });
});

describe("colours of heat maps", () => {
  it("tell signs apart and mark what is not finite", () => {
    expect(colour(0, true)).not.toEqual(colour(254, true));
    expect(colour(127, true)).toEqual([247, 247, 247]);
    expect(colour(255, true)).toEqual([200, 0, 200]);
  });
});
