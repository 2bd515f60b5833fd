// askMultiHop against servers that cut, repeat, lose and keep silent.

import assert from "node:assert/strict";
import { test } from "node:test";

import { FRAMES, RUN, STORY, frame, json, loopback, problem, stream, until } from "./loopback.mjs";

const { HoptrailError, askMultiHop, createClient } = await import(process.env.HOPTRAIL_JS);
const ANSWER = STORY.at(-1).answer;
const AT_ONCE = { retry_after: 0.01 };

// Asks, and gives what was told and what came of it.
async function asked(url, options = {}) {
  const events = [];
  const onEvent = (event) => events.push(event);
  const { askMultiHop: ask } = createClient({ baseUrl: url });
  const [{ value, reason }] = await Promise.allSettled([ask("Who?", { onEvent, ...options })]);
  return { events, answer: value, error: reason };
}

const isCancel = (request) => request.url.endsWith("/cancel");
const isFirst = (request) => request.method === "POST" && !isCancel(request);

async function inBytes(response, text) {
  for (const byte of Buffer.from(text)) {
    response.write(Uint8Array.of(byte));
    await new Promise(setImmediate);
  }
}

for (const [name, end] of [["LF", "\n"], ["CR", "\r"], ["CRLF", "\r\n"]]) {
  test(`a stream that comes byte by byte, its lines ended by ${name}`, async (t) => {
    const [started, step, text, finished] = STORY.map((event) => JSON.stringify(event, null, 1));
    const lines = [
      ": a comment", "", ":", "id: 9", "event: nothing", "",
      `id:${RUN}:1`, ...started.split("\n").map((line) => `data:${line}`), "retry: 5", "",
      `data: ${step.replaceAll("\n", " ")}`, `id: ${RUN}:2`, "id: with\0nul", "", ": ping", "",
      `id: ${RUN}:3`, "event: TEXT_MESSAGE_CONTENT", "unknown: field", "unknown",
      ...text.split("\n").map((line) => `data: ${line}`), "",
      `id: ${RUN}:4`, ...finished.split("\n").map((line) => `data: ${line}`), "", "",
    ];
    const server = await loopback(t, async (_request, response) => {
      stream(response);
      await inBytes(response, `\ufeff${lines.join(end)}`);
      response.end();
    });
    const { events, answer, error } = await asked(server.url);
    assert.equal(error, undefined);
    assert.deepEqual(events, STORY);
    assert.deepEqual(answer, ANSWER);
    assert.equal(server.requests.length, 1);
  });
}

test("the request is what the server expects", async (t) => {
  const server = await loopback(t, (_request, response) => {
    stream(response);
    response.end(FRAMES.join(""));
  });
  const client = createClient({ baseUrl: `${server.url}/below`, token: "s3cret" });
  await client.askMultiHop("Who\ud800?", { graph: "iterative", runId: RUN });
  const [{ method, url, headers, json: body }] = server.requests;
  assert.equal(`${method} ${url}`, "POST /below/reasoning/multi-hop");
  assert.equal(headers.authorization, "Bearer s3cret");
  assert.equal(headers["content-type"], "application/json");
  assert.equal(headers.accept, "text/event-stream");
  assert.deepEqual(body, {
    question: "Who\ufffd?",
    stream: true,
    graph: "iterative",
    run_id: RUN,
    detach: true,
  });
});

test("a connection that breaks is taken up where it broke, without gap or repetition", async (t) => {
  const server = await loopback(t, (request, response, count) => {
    stream(response);
    if (count === 1) response.write(FRAMES[0] + FRAMES[1] + FRAMES[2].slice(0, 40));
    if (count === 2) response.write(FRAMES[1] + FRAMES[2]);
    if (count === 3) return response.end(FRAMES[3]);
    setTimeout(() => request.socket.destroy(), 20);
  });
  const { events, answer } = await asked(server.url);
  assert.deepEqual(events, STORY);
  assert.deepEqual(answer, ANSWER);
  const id = server.requests[0].json.run_id;
  assert.match(id, /^[A-Za-z0-9_-]{1,64}$/);
  assert.deepEqual(
    server.requests.slice(1).map(({ method, url, headers }) => [method, url, headers["last-event-id"]]),
    [["GET", `/runs/${id}/events`, `${RUN}:2`], ["GET", `/runs/${id}/events`, `${RUN}:3`]],
  );
});

test("an event that did not come is asked for again", async (t) => {
  const server = await loopback(t, (_request, response, count) => {
    stream(response);
    response.end(count === 1 ? FRAMES[0] + FRAMES[2] + FRAMES[3] : FRAMES.slice(1).join(""));
  });
  const { events, answer } = await asked(server.url);
  assert.deepEqual(events, STORY);
  assert.deepEqual(answer, ANSWER);
  assert.equal(server.requests[1].headers["last-event-id"], `${RUN}:1`);
});

test("of a run that is told again from its trace only the end is new", async (t) => {
  const server = await loopback(t, (_request, response, count) => {
    stream(response);
    const retold = frame("t6", STORY[2]) + frame("t7", STORY[3]);
    response.end(count === 1 ? FRAMES.slice(0, 3).join("") : retold);
  });
  const { events, answer } = await asked(server.url);
  assert.deepEqual(events, STORY);
  assert.deepEqual(answer, ANSWER);
});

test("it gives up after so many connections that bring nothing new, and stops the run", async (t) => {
  const server = await loopback(t, (_request, response, count) => {
    if (count === 3) return json(response, 503, problem("shutting_down", AT_ONCE));
    stream(response);
    response.end(count === 1 ? FRAMES[0] : ": ping\n\n");
  });
  const { events, error } = await asked(server.url, { reconnects: 2, runId: RUN });
  assert.deepEqual(events, STORY.slice(0, 1));
  assert.ok(error instanceof HoptrailError);
  assert.equal(error.type, "connection_lost");
  assert.match(error.fix, new RegExp(`runId "${RUN}"`));
  const last = await until(() => server.requests.find(isCancel));
  assert.equal(`${last.method} ${last.url}`, `POST /runs/${RUN}/cancel`);
  assert.equal(server.requests.length, 4);
});

test("without reconnects the run is left to end with its connection", async (t) => {
  const server = await loopback(t, (_request, response) => {
    stream(response);
    response.end(FRAMES[0]);
  });
  const { error } = await asked(server.url, { reconnects: 0 });
  assert.equal(error.type, "connection_lost");
  assert.equal(server.requests[0].json.detach, false);
  assert.equal(server.requests.length, 1);
});

test("a connection that falls silent is given up, and the next one taken", async (t) => {
  const server = await loopback(t, (_request, response, count) => {
    stream(response);
    response.write(count === 1 ? FRAMES[0] : FRAMES.slice(1).join(""));
  });
  const { events } = await asked(server.url, { idleMs: 500 });
  assert.deepEqual(events, STORY);
});

test("pings keep a connection", async (t) => {
  const server = await loopback(t, async (_request, response) => {
    stream(response);
    for (let sent = 0; sent < 8; sent++) {
      response.write(": ping\n\n");
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
    response.end(FRAMES.join(""));
  });
  const { answer } = await asked(server.url, { idleMs: 3000 });
  assert.deepEqual(answer, ANSWER);
  assert.equal(server.requests.length, 1);
});

test("an abort is no HoptrailError, tells nothing more, and stops the run", async (t) => {
  const server = await loopback(t, (request, response) => {
    if (isCancel(request)) return json(response, 200, { cancelled: true });
    stream(response);
    response.write(FRAMES[0] + FRAMES[1]);
  });
  const leaving = new AbortController();
  const told = [];
  const onEvent = (event) => {
    told.push(event.type);
    if (event.type === "STEP_STARTED") leaving.abort();
  };
  const { error } = await asked(server.url, { onEvent, signal: leaving.signal });
  assert.equal(error.name, "AbortError");
  assert.equal(error, leaving.signal.reason);
  assert.deepEqual(told, ["RUN_STARTED", "STEP_STARTED"]);
  const { url } = await until(() => server.requests.find(isCancel));
  assert.equal(url, `/runs/${server.requests[0].json.run_id}/cancel`);
});

test("an abort before the server has answered stops the run too", async (t) => {
  const leaving = new AbortController();
  const server = await loopback(t, (request, response) => {
    if (isCancel(request)) return json(response, 200, { cancelled: true });
    leaving.abort();
  });
  const { error } = await asked(server.url, { signal: leaving.signal });
  assert.equal(error, leaving.signal.reason);
  await until(() => server.requests.find(isCancel));
});

test("an abort between two connections is not waited out", async (t) => {
  const leaving = new AbortController();
  const server = await loopback(t, (request, response, count) => {
    if (isCancel(request)) return json(response, 200, { cancelled: true });
    if (count === 1) {
      stream(response);
      return response.end(FRAMES[0]);
    }
    json(response, 503, problem("shutting_down", { retry_after: 600 }));
    setTimeout(() => leaving.abort(), 50);
  });
  const { error } = await asked(server.url, { signal: leaving.signal });
  assert.equal(error, leaving.signal.reason);
});

test("what was aborted before is not asked", async (t) => {
  const server = await loopback(t, (_request, response) => response.end());
  const { error } = await asked(server.url, { signal: AbortSignal.abort() });
  assert.equal(error.name, "AbortError");
  assert.deepEqual(server.requests.filter(isFirst), []);
});

test("what onEvent throws ends the run and is what comes of it", async (t) => {
  const server = await loopback(t, (request, response) => {
    if (isCancel(request)) return json(response, 200, { cancelled: true });
    stream(response);
    response.write(FRAMES[0]);
  });
  const mine = new Error("mine");
  const onEvent = () => {
    throw mine;
  };
  const { error } = await asked(server.url, { onEvent });
  assert.equal(error, mine);
  await until(() => server.requests.find(isCancel));
});

test("an error of the run is typed", async (t) => {
  const failed = { type: "RUN_ERROR", ...problem("no_backend", { fix: "`hoptrail doctor`" }) };
  const server = await loopback(t, (_request, response) => {
    stream(response);
    response.end(FRAMES[0] + frame(2, failed));
  });
  const { events, error } = await asked(server.url);
  assert.deepEqual(events, [STORY[0], failed]);
  assert.ok(error instanceof HoptrailError);
  assert.deepEqual(
    { ...error },
    { name: "HoptrailError", type: "no_backend", fix: "`hoptrail doctor`", retryAfter: null, status: null },
  );
  assert.equal(error.message, "because of no_backend");
  assert.equal(server.requests.length, 1);
});

test("a frame that says error is the end", async (t) => {
  const server = await loopback(t, (_request, response) => {
    stream(response);
    response.end(`${FRAMES[0]}event: error\ndata: ${JSON.stringify(problem("broken"))}\n\n`);
  });
  assert.equal((await asked(server.url)).error.type, "broken");
});

test("a run that somebody stopped has no answer", async (t) => {
  const stopped = { ...STORY[3], status: "interrupted" };
  const server = await loopback(t, (_request, response) => {
    stream(response);
    response.end(FRAMES[0] + frame(2, stopped));
  });
  assert.equal((await asked(server.url)).error.type, "run_cancelled");
});

for (const [status, header, wait] of [[429, "7", 7], [422, null, null], [401, null, null], [409, null, null]]) {
  test(`a refusal with ${status} is typed, final, and stops nobody's run`, async (t) => {
    const server = await loopback(t, (_request, response) => {
      json(response, status, problem("too_much"), header === null ? {} : { "Retry-After": header });
    });
    const { error } = await asked(server.url, { runId: RUN });
    assert.deepEqual([error.type, error.status, error.retryAfter], ["too_much", status, wait]);
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(server.requests.length, 1);
  });
}

test("a server that is no Hoptrail is told from a run that broke", async (t) => {
  const server = await loopback(t, (_request, response) => {
    response.writeHead(200, { "Content-Type": "text/html" });
    response.end("<!doctype html>");
  });
  assert.equal((await asked(server.url)).error.type, "not_hoptrail");
  assert.equal((await asked(server.url, { stream: false })).error.type, "not_hoptrail");
});

test("a server that is not there is told at once", async () => {
  const { error } = await asked("http://127.0.0.1:9");
  assert.equal(error.type, "unreachable");
  assert.equal(error.status, null);
});

test("without a stream there is one answer and no event", async (t) => {
  const server = await loopback(t, (_request, response) => json(response, 200, ANSWER));
  const { events, answer } = await asked(server.url, { stream: false, runId: RUN });
  assert.deepEqual(events, []);
  assert.deepEqual(answer, ANSWER);
  assert.deepEqual(server.requests[0].json, { question: "Who?", stream: false, run_id: RUN });
});

test("by itself it asks the page's own server", async (t) => {
  const server = await loopback(t, (_request, response) => {
    stream(response);
    response.end(FRAMES.join(""));
  });
  assert.equal((await Promise.allSettled([askMultiHop("Who?")]))[0].reason.type, "unreachable");
  globalThis.location = new URL(`${server.url}/some/page.html?x`);
  t.after(() => delete globalThis.location);
  assert.deepEqual(await askMultiHop("Who?"), ANSWER);
  assert.equal(server.requests[0].url, "/reasoning/multi-hop");
});

test("another fetch is used as it is, without a this", async () => {
  const seen = [];
  function fetch(url, request) {
    seen.push([this, `${url}`, request.method]);
    return Promise.resolve(Response.json(ANSWER));
  }
  const client = createClient({ baseUrl: "https://elsewhere.example/", fetch });
  assert.deepEqual(await client.askMultiHop("Who?", { stream: false }), ANSWER);
  assert.deepEqual(seen, [[undefined, "https://elsewhere.example/reasoning/multi-hop", "POST"]]);
});
