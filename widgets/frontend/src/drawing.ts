// The drawing that Python has laid out (minigraph.draw): finding boxes and arrows in it, writing into their slots.
import { select } from "d3-selection";
import { zoom, zoomIdentity, type D3ZoomEvent } from "d3-zoom";
import { s } from "./dom";

export type Ends = [tail: string, head: string, which: number];

export class Drawing {
  readonly svg: SVGSVGElement | null;
  readonly boxes = new Map<string, SVGGElement>();
  private readonly arrows = new Map<string, SVGGElement[]>();

  constructor(private readonly host: HTMLElement, markup: string) {
    // The markup is minigraph's own drawing; names in it are escaped where it is written.
    const parsed = new DOMParser().parseFromString(markup, "text/html");
    const svg = parsed.querySelector("svg.minigraph") as SVGSVGElement | null;
    this.svg = svg && (document.importNode(svg, true) as SVGSVGElement);
    if (!this.svg) {
      host.append(...Array.from(parsed.body.childNodes, (n) => document.importNode(n, true)));
      return;
    }
    host.append(this.svg);
    for (const g of this.svg.querySelectorAll<SVGGElement>("g.mg-box")) this.boxes.set(g.dataset.node!, g);
    for (const g of this.svg.querySelectorAll<SVGGElement>("g.mg-arrow")) {
      const key = `${g.dataset.tail} ${g.dataset.head}`;
      this.arrows.set(key, [...(this.arrows.get(key) ?? []), g]);
    }
  }

  arrow(ends: Ends): SVGGElement | undefined {
    const found = this.arrows.get(`${ends[0]} ${ends[1]}`);
    return found?.[Math.min(ends[2], found.length - 1)];
  }

  eachArrow(call: (g: SVGGElement) => void): void {
    for (const list of this.arrows.values()) list.forEach(call);
  }

  /** Boxes react to the pointer, and to Enter when they have the focus. */
  selectable(label: (id: string) => string, call: (id: string) => void): void {
    for (const [id, g] of this.boxes) {
      g.setAttribute("tabindex", "-1");
      g.setAttribute("role", "button");
      g.setAttribute("aria-label", label(id));
      g.addEventListener("click", () => call(id));
      g.addEventListener("keydown", (event) => {
        if (event.key !== "Enter") return;
        call(id);
        event.preventDefault();
        event.stopPropagation();
      });
    }
  }

  slot(id: string, index: number, text: string): void {
    const found = this.boxes.get(id)?.querySelectorAll<SVGTextElement>("text.mg-slot")[index];
    if (found && found.textContent !== text) found.textContent = text;
  }

  room(id: string): SVGRectElement | null {
    return this.boxes.get(id)?.querySelector<SVGRectElement>("rect.mg-room") ?? null;
  }

  /** Puts an element in front of everything. */
  overlay(element: SVGElement): void {
    this.svg?.append(element);
  }

  clearOverlays(): void {
    this.svg?.querySelectorAll(".mgw-overlay").forEach((e) => e.remove());
  }

  /** A mark that runs along an arrow, backwards if so. */
  runner(g: SVGGElement, backwards: boolean, milliseconds: number): void {
    const path = g.querySelector("path");
    if (!path || !("animate" in path) || !("getPointAtLength" in path)) return;
    const length = path.getTotalLength();
    const dot = s("circle", { class: `mgw-overlay mgw-runner ${backwards ? "mgw-back" : ""}`, r: 4.5 });
    this.overlay(dot);
    const at = (t: number) => path.getPointAtLength(length * (backwards ? 1 - t : t));
    const steps = Array.from({ length: 9 }, (_, i) => at(i / 8));
    const moves = steps.map((p) => ({ transform: `translate(${p.x}px,${p.y}px)` }));
    dot.animate(moves, { duration: milliseconds, easing: "ease-in-out", fill: "forwards" }).finished.then(
      () => dot.remove(),
      () => dot.remove(),
    );
  }

  /** Wheel with Ctrl, drag and pinch; plain scrolling stays with the page. Returns what the + and - keys do. */
  zoomable(): { by(factor: number): void; reset(): void; reveal(id: string): void } {
    const svg = this.svg;
    if (!svg) return { by() {}, reset() {}, reveal() {} };
    const content = s("g", { class: "mgw-content" });
    content.append(...Array.from(svg.childNodes).filter((n) => n.nodeName !== "style"));
    svg.append(content);
    const behaviour = zoom<SVGSVGElement, unknown>()
      .scaleExtent([0.2, 8])
      .filter((event: MouseEvent) => (event.type === "wheel" ? event.ctrlKey || event.metaKey : !event.button))
      .on("zoom", (event: D3ZoomEvent<SVGSVGElement, unknown>) => content.setAttribute("transform", String(event.transform)));
    const chosen = select(svg).call(behaviour).on("dblclick.zoom", null);
    this.overlay = (element) => content.append(element);
    return {
      by: (factor) => void chosen.call(behaviour.scaleBy, factor),
      reset: () => void chosen.call(behaviour.transform, zoomIdentity),
      reveal: (id) => this.reveal(id),
    };
  }

  /** Scrolls the host, and nothing else, so that a box is in sight. */
  reveal(id: string): void {
    const box = this.boxes.get(id)?.getBoundingClientRect();
    const frame = this.host.getBoundingClientRect();
    if (!box || !frame.height) return;
    if (box.top < frame.top + 8) this.host.scrollTop -= frame.top + 24 - box.top;
    else if (box.bottom > frame.bottom - 8) this.host.scrollTop += box.bottom - frame.bottom + 24;
    if (box.left < frame.left + 8) this.host.scrollLeft -= frame.left + 24 - box.left;
    else if (box.right > frame.right - 8) this.host.scrollLeft += box.right - frame.right + 24;
  }
}
