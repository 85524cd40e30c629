// What a view talks to: a model in Python where there is a kernel, a plain record where there is none.

export interface Channel {
  get(name: string): any;
  set(name: string, value: unknown): void;
  on(name: string, call: () => void): () => void;
  send?(message: unknown): void;
  onMessage?(call: (message: any, buffers: DataView[]) => void): () => void;
}

/** The channel of a page without a kernel. */
export function record(values: Record<string, unknown>): Channel {
  const listeners = new Map<string, Set<() => void>>();
  return {
    get: (name) => values[name],
    set(name, value) {
      values[name] = value;
      for (const call of listeners.get(name) ?? []) call();
    },
    on(name, call) {
      if (!listeners.has(name)) listeners.set(name, new Set());
      listeners.get(name)!.add(call);
      return () => listeners.get(name)!.delete(call);
    },
  };
}
