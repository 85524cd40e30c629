// Generated code as lines that can be clicked, with a little colour: keywords, numbers, strings and comments.
import { h, type Child } from "./dom";

const WORDS = {
  c: "char|const|double|else|float|for|if|int|int8_t|int16_t|int32_t|int64_t|long|return|short|sizeof|static|struct|uint8_t|uint16_t|uint32_t|uint64_t|"
    + "unsigned|void|while|inline",
  python: "and|as|def|del|else|for|from|if|import|in|is|not|or|return|None|True|False",
};
const STRING = String.raw`"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'`;
const NUMBER = String.raw`\b(?:0x[\da-fA-F]+|\d+\.?\d*(?:[eE][-+]?\d+)?)[fLu]*\b`;

export interface Token { kind: "" | "comment" | "string" | "number" | "word" | "directive"; text: string }

/** A line in tokens. Comments over several lines do not begin in the middle of a line of what is generated. */
export function tokens(line: string, language: string, inside = false): Token[] {
  const python = language === "python";
  if (inside || (!python && /^\s*(\/\*|\*)/.test(line))) return [{ kind: "comment", text: line }];
  if (!python && /^\s*#/.test(line)) return [{ kind: "directive", text: line }];
  const comment = python ? "#.*" : String.raw`\/\/.*|\/\*.*?\*\/`;
  const pattern = new RegExp(`(?<comment>${comment})|(?<string>${STRING})|(?<word>\\b(?:${python ? WORDS.python : WORDS.c})\\b)|(?<number>${NUMBER})`, "g");
  const found: Token[] = [];
  let at = 0;
  for (const match of line.matchAll(pattern)) {
    if (match.index > at) found.push({ kind: "", text: line.slice(at, match.index) });
    const kind = (["comment", "string", "word", "number"] as const).find((k) => match.groups![k] !== undefined)!;
    found.push({ kind, text: match[0] });
    at = match.index + match[0].length;
  }
  if (at < line.length) found.push({ kind: "", text: line.slice(at) });
  return found;
}

export function codeLines(text: string, language: string): HTMLElement[] {
  let inside = false;
  return text.replace(/\n$/, "").split("\n").map((line, i) => {
    const parts: Child[] = tokens(line, language, inside).map((t) => (t.kind ? h("span", { class: `mgw-${t.kind === "number" ? "number-token" : t.kind}` }, t.text) : t.text));
    if (language !== "python") inside = (inside || /^\s*\/\*/.test(line)) && !line.includes("*/");
    return h("div", { class: "mgw-code-line", "data-line": i }, h("span", { class: "mgw-line-number", "aria-hidden": true }, String(i + 1)), h("code", {}, ...parts));
  });
}
