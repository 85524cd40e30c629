// Views beside each other. Players among them go on together: a step of one is a step of all.
import { record, type Channel } from "./channel";
import { h } from "./dom";

type Mount = (host: HTMLElement, channel: Channel) => () => void;
interface Part { label: string; document: any; reader: Record<string, unknown>; picture: string }

export const side = (mount: Mount) => (root: HTMLElement, channel: Channel): (() => void) => {
  const parts: Part[] = channel.get("document").parts;
  const channels = parts.map((p) => record({ document: p.document, picture: p.picture, ...p.reader }));
  const together = h("input", { type: "checkbox", checked: true });
  const stops: (() => void)[] = [];
  channels.forEach((c, i) => {
    const host = h("div", { class: "mgw-column" }, h("h4", {}, parts[i].label));
    root.append(host);
    stops.push(mount(host, c));
    if (typeof parts[i].reader.step !== "number") return;
    const follow = () => {
      if (!together.checked) return;
      for (const other of channels) {
        if (other === c || typeof other.get("step") !== "number") continue;
        const last = other.get("document").frames.length - 1;
        const step = Math.min(c.get("step"), last);
        if (other.get("step") !== step && c.get("step") <= last) other.set("step", step);
      }
    };
    stops.push(c.on("step", follow));
  });
  if (channels.filter((c) => typeof c.get("step") === "number").length > 1) {
    root.append(h("label", { class: "mgw-together" }, together, " step together"));
  }
  return () => stops.forEach((stop) => stop());
};
