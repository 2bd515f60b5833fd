// The page's own scripts outside of a page: everything they have at the top, by name.

import { readFileSync } from "node:fs";

const folder = new URL("../../src/hoptrail/viewer/", import.meta.url);
const read = (name) => readFileSync(new URL(name, folder), "utf-8");

/** Gives what is asked for of the scripts that are named, which run in one scope as in the page. */
export function parts(scripts, names) {
  const sources = ["vendor/htm-preact.js", ...scripts.map((name) => `app/${name}.js`)].map(read);
  const wanted = `return { ${names.join(", ")} };`;
  const [vendor, ...own] = sources;
  // As in a browser, where there is no `module` for the library to be put into.
  const run = new Function("exports", "module", "define", `${vendor};"use strict";${own.join("\n")}\n${wanted}`);
  return run.call(globalThis);
}
