// The module that every live view carries: it registers the view's model on the page, fetches the script of the views
// from the one widget that has it, and draws the view where it is displayed as a widget, in a box with others.
// Kept small on purpose: it is sent once for each view.
async function runtime(model) {
  const carrier = await model.widget_manager.get_model(model.get("_runtime").slice("IPY_MODEL_".length));
  const source = carrier.get("source");
  if (globalThis.minigraphRuntime?.source !== source) {
    const script = document.createElement("script");
    script.textContent = source;
    document.head.append(script);
    script.remove();
    globalThis.minigraphRuntime.source = source;
  }
  return globalThis.minigraphRuntime;
}
function channel(model) {
  return {
    get: (name) => model.get(name),
    set: (name, value) => { model.set(name, value); model.save_changes(); },
    on: (name, call) => { model.on(`change:${name}`, call); return () => model.off(`change:${name}`, call); },
    send: (message) => model.send(message),
    onMessage: (call) => { model.on("msg:custom", call); return () => model.off("msg:custom", call); },
  };
}
async function initialize({ model }) {
  const name = model.get("name");
  (globalThis.minigraphLive ??= new Map()).set(name, channel(model));
  (await runtime(model)).connect(name);
}
function render({ model, el }) {
  let stop = () => {};
  runtime(model).then((r) => { stop = r.mount(el, channel(model)); }, (error) => { el.textContent = String(error); });
  return () => stop();
}
export default { initialize, render };
