// Elements in one line each, and what every view has: keys, announcements, a theme.

export type Child = Node | string | null | undefined | false;

const SVG = "http://www.w3.org/2000/svg";

function fill<E extends Element>(element: E, attributes: Record<string, unknown>, children: Child[]): E {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value as EventListener);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...(children.filter((c) => c !== null && c !== undefined && c !== false) as (Node | string)[]));
  return element;
}

export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, unknown> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  return fill(document.createElement(tag), attributes, children);
}

export function s<K extends keyof SVGElementTagNameMap>(
  tag: K,
  attributes: Record<string, unknown> = {},
  ...children: Child[]
): SVGElementTagNameMap[K] {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** A formula: lines of MathML that the Python side has made. No other markup of a document is ever parsed. */
export function math(lines: string | string[] | undefined): Child {
  if (!lines?.length) return null;
  const parts = [lines].flat().map((markup) => {
    const template = document.createElement("template");
    template.innerHTML = markup;
    return h("span", { class: "mgw-line" }, template.content.querySelector("math"));
  });
  return h("span", { class: "mgw-math" }, ...parts);
}

export function button(label: string, text: string, key: string, call: () => void, more: Record<string, unknown> = {}) {
  const title = key ? `${label} (${key})` : label;
  return h("button", { type: "button", title, "aria-label": label, onclick: call, ...more }, text);
}

/** Keys of a view: they act while the focus is in it, and not while somebody types or picks from a list. */
export function keys(root: HTMLElement, actions: Record<string, (event: KeyboardEvent) => void>): void {
  root.addEventListener("keydown", (event) => {
    const target = event.target as HTMLElement;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (target.matches("input[type=search], input[type=text], textarea, select") && event.key !== "Escape") return;
    if (event.key === " " && target.matches("button, summary, [role=button]")) return;
    if (event.key === "Enter" && target.matches("button, summary, a")) return;
    const act = actions[event.key];
    if (!act) return;
    act(event);
    event.preventDefault();
    event.stopPropagation();
  });
  // JupyterLab acts on single keys (a, b, dd ...) unless the focus is in something that takes text.
  root.setAttribute("data-lm-suppress-shortcuts", "true");
}

export const calm = (): boolean => globalThis.matchMedia?.("(prefers-reduced-motion: reduce)").matches ?? false;
