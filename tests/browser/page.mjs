// Runs the script of a page on as much of a document as it needs: submits its form, and prints
// what it shows.

import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [page, server, folder] = process.argv.slice(2);
const SERVED = "http://127.0.0.1:8700/client/hoptrail.js";

class FakeElement {
  items = [];
  textContent = "";
  listeners = {};
  addEventListener = (type, listener) => (this.listeners[type] = listener);
  append = (...items) => this.items.push(...items);
  replaceChildren = () => {
    this.items = [];
    this.textContent = "";
  };
}

const elements = {};
const html = await readFile(page, "utf8");
const [, question] = /name="question"[^>]*value="([^"]*)"/s.exec(html);
globalThis.location = new URL(server);
globalThis.document = {
  querySelector: (place) => (elements[place] ??= new FakeElement()),
  createElement: () => new FakeElement(),
};
elements.form = Object.assign(new FakeElement(), { question: { value: question } });

const [, source] = /<script type="module">(.*)<\/script>/s.exec(html);
if (!source.includes(SERVED)) throw new Error("the page does not import the served module");
const script = join(folder, "page.mjs");
await writeFile(script, source.replace(SERVED, process.env.HOPTRAIL_JS));
await import(pathToFileURL(script));
await elements.form.listeners.submit({ preventDefault() {} });

const shown = (place) => elements[place].items.map((item) => item.textContent);
const answer = elements["#answer"].textContent;
process.stdout.write(
  JSON.stringify({ answer, steps: shown("#steps"), citations: shown("#citations") }),
);
