// Bundles the views into one script, which the Python package carries: node build.mjs
import { build } from "esbuild";

await build({
  entryPoints: ["src/main.ts"],
  outfile: "../minigraph_widgets/static/runtime.js",
  bundle: true,
  format: "iife",
  minify: true,
  target: "es2022",
  charset: "ascii",
  legalComments: "none",
  loader: { ".css": "text" },
  supported: { "inline-script": false }, // no "</script" inside, so that it may stand in a page
});
