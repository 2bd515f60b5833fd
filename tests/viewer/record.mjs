// Does with the page's derivations what a Python test asks of it: JSON on stdin, JSON on stdout.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { createContext, runInContext } from "node:vm";

const FILES = [
  "vendor/htm-preact.js", "app/text.js", "app/status.js", "app/record.js",
  "app/chain.js", "app/claims.js", "app/plan.js", "app/layers.js", "app/layout.js", "app/bars.js",
];
const page = createContext({ URL });
for (const file of FILES) {
  runInContext(readFileSync(join(process.env.HOPTRAIL_VIEWER, file), "utf8"), page, file);
}
const does = (work) => runInContext(`(${work})`, page);
const facts = `((trace, elapsed, areLaidOut) => {
  const run = runAt(readRun(trace), elapsed ?? null);
  const shape = planShape(run);
  const faces = areLaidOut ? ["full", "line", "number"] : [];
  const layouts = faces.flatMap((face) => [true, false].map((down) => laidOut(shape, face, down)));
  const selected = firstToLookAt(run);
  return {
    now: run.now, selected, parts: partsOf(run), chain: longestChain(run),
    rows: waterfallRows(run), shape, layouts, links: linksOf(run), answeredBy: answeredBy(callsOf(run)),
  };
})`;
const lit = `((trace, focus) => {
  const found = litBy(linksOf(readRun(trace)), focus);
  return Object.fromEntries(Object.entries(found).map(([name, set]) => [name, [...set].sort()]));
})`;

const works = {
  facts: ({ trace, elapsed }) => does(facts)(trace, elapsed, false),
  layouts: ({ trace, elapsed }) => does(facts)(trace, elapsed, true),
  lit: ({ trace, focus }) => does(lit)(trace, focus),
  call: ({ name, given }) => does(name)(...given),
};

const orders = JSON.parse(await text(process.stdin));
process.stdout.write(JSON.stringify(orders.map((order) => works[order.work](order) ?? null)));
