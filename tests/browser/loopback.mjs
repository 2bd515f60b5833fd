// A server that answers as a test wants it, and what the tests say often.

import { once } from "node:events";
import { createServer } from "node:http";

export const RUN = "run-1";

// `answer` is called as (request, response), with request.text being the body.
export async function loopback(t, answer) {
  const requests = [];
  const server = createServer(async (request, response) => {
    request.text = "";
    for await (const piece of request) request.text += piece;
    request.json = request.text && JSON.parse(request.text);
    requests.push(request);
    await answer(request, response, requests.length);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${server.address().port}`, requests };
}

export function json(response, status, value, headers = {}) {
  response.writeHead(status, { "Content-Type": "application/json", ...headers });
  response.end(JSON.stringify(value));
}

export function problem(type, more = {}) {
  return { error: { type, message: `because of ${type}`, fix: null, retry_after: null, ...more } };
}

export function stream(response) {
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  response.flushHeaders();
}

export function frame(number, event, run = RUN) {
  return `event: ${event.type}\nid: ${run}:${number}\ndata: ${JSON.stringify(event)}\n\n`;
}

export const STORY = [
  { type: "RUN_STARTED", run_id: RUN, question: "Who?", resumed: false },
  { type: "STEP_STARTED", id: 1, asked: "Who?" },
  { type: "TEXT_MESSAGE_CONTENT", delta: "Smetana wrote “Má vlast” 🎼" },
  { type: "RUN_FINISHED", status: "answered", answer: { run_id: RUN, answer: "Smetana [1]" } },
];
export const FRAMES = STORY.map((event, at) => frame(at + 1, event));

// Waits until `what` gives something true.
export async function until(what) {
  for (;;) {
    const found = what();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
