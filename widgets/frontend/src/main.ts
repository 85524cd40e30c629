// The one script of all views. It mounts what the page has queued, and what live widgets hand to it.
import css from "./style.css";
import { record, type Channel } from "./channel";
import { h } from "./dom";
import { explorer } from "./explorer";
import { memory } from "./memory";
import { passes } from "./passes";
import { player } from "./player";
import { profile } from "./profile";
import { side } from "./side";
import { training } from "./training";

interface Started { view: HTMLElement; name: string; stop: () => void }
// What the page knows, across all copies of this script: it may come once with an output and once with a widget.
interface Page {
  minigraphStarted?: Started[];
  minigraphViews?: string[] | { push(name: string): void };
  minigraphLive?: Map<string, Channel>;
  minigraphRuntime?: { mount: Mount; connect(name: string): void; source?: string };
}
const page = globalThis as unknown as Page;

type Mount = (root: HTMLElement, channel: Channel) => () => void;

export const VIEWS: Record<string, Mount> = { explorer, memory, passes, player, profile, training };

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
VIEWS.side = side(mount);


/** Starts the views of this name that still show their static picture. An output may be put into the page later than
    its scripts run, so a view that is not there yet is waited for. */
function start(name: string, frames = 120): void {
  const views = document.querySelectorAll<HTMLElement>(`[data-view="${name}"]:not([data-started])`);
  if (!views.length && frames) requestAnimationFrame(() => start(name, frames - 1));
  for (const view of views) {
    view.dataset.started = "true";
    const data = JSON.parse(view.querySelector('script[type="application/json"]')!.textContent!);
    const still = view.querySelector<HTMLElement>(".mgw-static")!;
    const live = page.minigraphLive?.get(name);
    const channel = live ?? record({ document: data.document, picture: still.innerHTML, ...data.reader });
    const others = (page.minigraphStarted ?? []).filter((s) => s.view.isConnected);
    page.minigraphStarted = [...others, { view, name, stop: mount(view, channel) }];
    still.hidden = true;
  }
}

/** A model in a kernel has come for views of this name: they go on with it. */
function connect(name: string): void {
  for (const started of page.minigraphStarted ?? []) {
    if (started.name !== name) continue;
    started.stop();
    started.stop = mount(started.view, page.minigraphLive!.get(name)!);
  }
}

styled();
const queue = Array.isArray(page.minigraphViews) ? page.minigraphViews : [];
page.minigraphViews = { push: (name: string) => start(name) };
page.minigraphRuntime = { mount, connect };
queueMicrotask(() => queue.forEach((name) => start(name)));
