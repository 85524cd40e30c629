// The one script of all views. It mounts what the page has queued, and what live widgets hand to it.
import css from "./style.css";
import { record, type Channel } from "./channel";
import { h } from "./dom";
import { player } from "./player";

type Mount = (root: HTMLElement, channel: Channel) => () => void;

export const VIEWS: Record<string, Mount> = { player };

function styled(): void {
  if (document.querySelector("style[data-minigraph-views]")) document.querySelector("style[data-minigraph-views]")!.remove();
  document.head.append(h("style", { "data-minigraph-views": true }, css));
}

/** Draws a view into `host`; returns what ends it. */
export function mount(host: HTMLElement, channel: Channel): () => void {
  const kind = channel.get("document").kind as string;
  const root = h("div", { class: `mgw mgw-${kind}`, "data-kind": kind });
  host.append(root);
  const stop = VIEWS[kind](root, channel);
  root.dataset.ready = "true";
  return () => {
    stop();
    root.remove();
  };
}

/** Starts the views of this name that still show their static picture. */
function start(name: string): void {
  for (const view of document.querySelectorAll<HTMLElement>(`[data-view="${name}"]:not([data-started])`)) {
    view.dataset.started = "true";
    const data = JSON.parse(view.querySelector('script[type="application/json"]')!.textContent!);
    const still = view.querySelector<HTMLElement>(".mgw-static")!;
    const channel = record({ document: data.document, picture: still.innerHTML, ...data.reader });
    mount(view, channel);
    still.remove();
  }
}

styled();
const page = globalThis as unknown as { minigraphViews?: string[] | { push: typeof start }; minigraphRuntime?: unknown };
const queue = Array.isArray(page.minigraphViews) ? page.minigraphViews : [];
page.minigraphViews = { push: start };
page.minigraphRuntime = { mount };
// A page may still be loading, and an output may be put into the page only after its scripts have run.
queueMicrotask(() => queue.forEach(start));
