// The parts of the page that need no page: reading events, what rests on a step, words that differ.

import assert from "node:assert/strict";
import { test } from "node:test";

import { json, loopback, problem, stream, until } from "../browser/loopback.mjs";
import { parts } from "./parts.mjs";

const page = parts(
  ["text", "route", "patience", "events", "server", "follower", "dialog", "change", "run_table", "runs", "words", "comparison"],
  ["EventReader", "OwnServer", "Problem", "Follower", "routeOf", "stepIn", "runAddress", "stepsBuiltOn",
    "passagesFor", "changeOf", "effectOf", "named", "wordDifference", "foldedSteps", "measuredChange", "ago",
    "filtersOf", "runsOf"],
);

// ---------------------------------------------------------------- events

const SAID = "event: A\nid: r:1\ndata: {\"x\":1}\n\n: ping\n\nid: r:2\r\ndata: “é🎼”\r\ndata: two\r\n\r\ndata:3\r\r";
const HEARD = [
  { type: "A", id: "r:1", data: '{"x":1}' },
  { type: "", id: "r:2", data: "“é🎼”\ntwo" },
  { type: "", id: "r:2", data: "3" },
];

test("events are read from pieces of any size", () => {
  for (let size = 1; size <= SAID.length; size++) {
    const reader = new page.EventReader();
    const heard = [];
    for (let at = 0; at < SAID.length; at += size) heard.push(...reader.take(SAID.slice(at, at + size)));
    heard.push(...reader.take("\n")); // the last line end could have been half of one
    assert.deepEqual(heard, HEARD, `in pieces of ${size}`);
  }
});

test("what a stream breaks off in is no event", () => {
  assert.deepEqual([...new page.EventReader().take("data: 1\n\ndata: 2\n")].length, 1);
});

// ---------------------------------------------------------------- the server

test("a refusal is told as the server tells it, another answer by its status", async (t) => {
  const server = await loopback(t, (_request, response, count) => {
    if (count === 1) return json(response, 422, problem("too_odd", { fix: "ask otherwise" }));
    response.writeHead(502);
    response.end("<html>");
  });
  const own = new page.OwnServer(server.url);
  const refused = await own.json("runs").catch((error) => error);
  assert.deepEqual([refused.type, refused.status, refused.fix, refused.passes], ["too_odd", 422, "ask otherwise", false]);
  const broken = await own.json("runs").catch((error) => error);
  assert.deepEqual([broken.status, broken.passes], [502, true]);
});

test("a server that is not there is a problem that passes", async () => {
  const error = await new page.OwnServer("http://127.0.0.1:9/").json("runs").catch((problem) => problem);
  assert.ok(error instanceof page.Problem);
  assert.deepEqual([error.type, error.status, error.passes], ["unreachable", 0, true]);
});

test("all requests wait for one token, which goes into the header alone", async (t) => {
  const server = await loopback(t, (request, response) => {
    if (request.headers.authorization === "Bearer right") return json(response, 200, { ok: true });
    json(response, 401, problem("unauthorized"));
  });
  const own = new page.OwnServer(server.url);
  let asked = 0;
  own.onRefused = () => {
    if (own.wanted) asked++;
  };
  const both = Promise.all([own.json("a"), own.json("b")]);
  (await until(() => own.wanted && server.requests.length === 2 && own.wanted)).give("wrong");
  const again = await until(() => own.wanted?.isWrong && own.wanted);
  again.give("right");
  assert.deepEqual(await both, [{ ok: true }, { ok: true }]);
  assert.equal(asked, 2);
  assert.ok(server.requests.every(({ url }) => !/right|wrong/.test(url)));
});

test("who gives no token gets the refusal", async (t) => {
  const server = await loopback(t, (_request, response) => json(response, 401, problem("unauthorized")));
  const own = new page.OwnServer(server.url);
  const asked = own.json("a").catch((error) => error);
  (await until(() => own.wanted)).leave();
  assert.equal((await asked).type, "unauthorized");
  assert.equal(own.wanted, null);
});

test("a run that begins is named by its first event; one that cannot begin is a problem", async (t) => {
  const server = await loopback(t, (_request, response, count) => {
    stream(response);
    const event = count === 1 ? { type: "RUN_STARTED", run_id: "r1" } : problem("no_backend");
    response.write(`${count === 1 ? "" : "event: error\n"}data: ${JSON.stringify(event)}\n\n`);
  });
  const own = new page.OwnServer(server.url);
  assert.equal(await own.begin("reasoning/multi-hop", { question: "Who?" }), "r1");
  assert.deepEqual(server.requests[0].json, { question: "Who?", stream: true, detach: true });
  assert.equal((await own.begin("reasoning/multi-hop", {}).catch((error) => error)).type, "no_backend");
});

// ---------------------------------------------------------------- following

/** A server of one run; `tell` answers to its events, `row` is as it stands. */
async function follow(t, { rows, trace = () => ({ status: "running" }), tell = (response) => response.end() }) {
  let looked = 0;
  const server = await loopback(t, (request, response) => {
    if (request.url.endsWith("/events")) {
      stream(response);
      return tell(response, request);
    }
    if (!request.url.endsWith("/trace.json")) return json(response, 200, rows[Math.min(looked++, rows.length - 1)]);
    const told = trace(looked);
    if (told) json(response, 200, told);
    else json(response, 404, problem("run_not_found"));
  });
  const heard = { traces: [], texts: [], states: [], problems: [] };
  const follower = new page.Follower(new page.OwnServer(server.url), "r1", {
    onTrace: (each) => heard.traces.push(each),
    onText: (each) => heard.texts.push(each),
    onState: (each) => heard.states.push(each),
    onProblem: (each) => heard.problems.push(each),
  });
  t.after(() => follower.stop());
  return { server, heard, follower, over: follower.start() };
}

const GOES = { status: "running", live: true };
const ENDED = { status: "answered", live: false };
const event = (id, data) => `id: ${id}\ndata: ${JSON.stringify(data)}\n\n`;

test("a run that has ended is looked at once", async (t) => {
  const { heard, over, server } = await follow(t, { rows: [ENDED], trace: () => ({ status: "answered" }) });
  await over;
  assert.deepEqual(heard.states, ["ended"]);
  assert.deepEqual(heard.traces, [{ status: "answered" }]);
  assert.equal(server.requests.length, 2);
});

test("a broken stream is taken up after the last event that came", async (t) => {
  let streams = 0;
  const { heard, over, server } = await follow(t, {
    rows: [GOES, GOES, ENDED],
    tell: (response) => {
      streams++;
      response.write(event(`r1:${streams}`, { type: "TEXT_MESSAGE_CONTENT", delta: streams === 1 ? "Pra" : "gue" }));
      setTimeout(() => (streams === 1 ? response.destroy() : response.end()), 150);
    },
  });
  await over;
  assert.equal(heard.texts.at(-1), "Prague");
  const asked = server.requests.filter(({ url }) => url.endsWith("/events"));
  assert.deepEqual(asked.map(({ headers }) => headers["last-event-id"]), [undefined, "r1:1"]);
  assert.deepEqual([heard.states.includes("lost"), heard.states.at(-1)], [true, "ended"]);
});

test("an answer that begins anew drops what was written", async (t) => {
  const { heard, over } = await follow(t, {
    rows: [GOES, ENDED],
    tell: (response) => {
      response.write(event("r1:1", { type: "TEXT_MESSAGE_CONTENT", delta: "Brno" }));
      response.write(event("r1:2", { type: "TEXT_MESSAGE_RESTARTED" }));
      response.end(event("r1:3", { type: "TEXT_MESSAGE_CONTENT", delta: "Prague" }));
    },
  });
  await over;
  assert.equal(heard.texts.at(-1), "Prague");
});

test("the record of a process that was killed is told with its end", async (t) => {
  const rows = [{ status: "running", live: false }, { status: "interrupted", live: false }];
  const { heard, over } = await follow(t, { rows, trace: (looked) => (looked === 1 ? { status: "running" } : null) });
  await over;
  assert.deepEqual(heard.states, ["elsewhere", "ended"]);
  assert.equal(heard.traces.at(-1).status, "interrupted");
  assert.deepEqual(heard.problems, []);
});

test("nothing more is asked after one has left", async (t) => {
  const { follower, over, server, heard } = await follow(t, { rows: [GOES], tell: () => {} });
  await until(() => heard.states.length > 0);
  follower.stop();
  await over;
  // What was on its way when it was left may still arrive.
  await new Promise((resolve) => setTimeout(resolve, 300));
  const before = server.requests.length;
  await new Promise((resolve) => setTimeout(resolve, 1200));
  assert.equal(server.requests.length, before);
});

test("a run that there is not is a problem, and the end", async (t) => {
  const server = await loopback(t, (_request, response) => json(response, 404, problem("run_not_found")));
  const problems = [];
  const hear = { onProblem: (each) => problems.push(each.type) };
  await new page.Follower(new page.OwnServer(server.url), "nope", hear).start();
  assert.deepEqual(problems, ["run_not_found"]);
});

// ---------------------------------------------------------------- the list

test("many runs are asked for in several requests", async (t) => {
  const server = await loopback(t, (request, response) => {
    const query = new URL(request.url, server.url).searchParams;
    const [limit, offset] = [query.get("limit"), query.get("offset")].map(Number);
    const runs = Array.from({ length: Math.max(0, Math.min(limit, 620 - offset)) }, (_run, at) => ({ run_id: offset + at }));
    json(response, 200, { runs });
  });
  const runs = await page.runsOf(new page.OwnServer(server.url), "status=failed", 1051);
  assert.deepEqual(runs.map((run) => run.run_id), Array.from({ length: 620 }, (_run, at) => at));
  assert.ok(server.requests.every(({ url }) => url.includes("status=failed")));
});

test("of an address only the filters are kept", () => {
  const { query } = page.routeOf("#/?status=failed&limit=9999&sort=&question=a%26b&__proto__=x");
  assert.deepEqual(page.filtersOf(query), { status: "failed", question: "a&b" });
});

test("an age is told in the largest unit that fits", () => {
  const now = new Date("2026-11-22T12:00:00Z");
  const told = (seconds) => page.ago(new Date(now - seconds * 1000), now);
  assert.deepEqual([-5, 3, 59, 60, 7199, 90000, 6e5].map(told), [
    "just now", "just now", "59 seconds ago", "1 minute ago", "1 hour ago", "1 day ago", "6 days ago",
  ]);
  assert.match(told(1e7), /2026/);
});

test("addresses that anybody may have written are read", () => {
  assert.deepEqual(page.routeOf("#/runs/a-b?step=2").parts, ["runs", "a-b"]);
  const step = (hash) => page.stepIn(page.routeOf(hash).query);
  assert.deepEqual(["#/runs/a?step=12", "#/runs/a?step=x", "#/runs/a?step=1e9", "#"].map(step), [12, null, null, null]);
  assert.deepEqual(page.routeOf("").parts, []);
  assert.equal(page.runAddress("a/../b?c", 2), "#/runs/a%2F..%2Fb%3Fc?step=2");
});

// ---------------------------------------------------------------- changes

const passage = (id) => ({ passage: { id, text: id } });
const STEPS = [
  { id: 1, question: "Who?", answer: "Kafka", depends_on: [], evidence: [passage("p1"), passage("p2")] },
  { id: 2, question: "Where was #1 born?", answer: "Prague", depends_on: [1], evidence: [passage("p2"), passage("p3")] },
  { id: 3, question: "Which river is at #2?", depends_on: [2], evidence: [], tools: [{ passage_id: "made" }] },
  { id: 4, question: "What else?", depends_on: [], earlier: [{ id: 1, reason: "similar" }], evidence: [passage("made")] },
  { id: 5, question: "When?", depends_on: [], earlier: [{ id: 1, reason: "memory" }], evidence: [passage("p4")] },
];
const RUN = { question: "Which river?", graph: "multi-hop", steps: STEPS };

test("what rests on a step rests on it by reference and by context, not by memory", () => {
  assert.deepEqual(page.stepsBuiltOn(STEPS, [1]), [2, 3, 4]);
  assert.deepEqual(page.stepsBuiltOn(STEPS, [2]), [3]);
  assert.deepEqual(page.stepsBuiltOn(STEPS, [5]), []);
  assert.deepEqual(page.stepsBuiltOn([{ id: 1, depends_on: [2] }, { id: 2, depends_on: [1] }], [1]), [2]);
});

test("what is asked again, and what is kept, is told", () => {
  const told = (step, kind, turned = []) => page.effectOf(RUN, step, kind, new Set(turned));
  assert.equal(told(STEPS[0], "answer"), "Asked again: steps 2–4 and the final answer. Kept: the plan and step 5.");
  assert.equal(
    told(STEPS[1], "question"),
    "Asked again: step 2; where that answers otherwise, also step 3 and the final answer. Kept: the plan and steps 1, 4–5.",
  );
  assert.match(told(null, "question"), /nothing is kept/);
  assert.match(told(null, "model"), /^Asked again: steps 1–5;.* Kept: the plan\.$/);
  assert.match(told(null, "passages", ["p4"]), /^Asked again: step 5;.* Kept: the plan and steps 1–4\.$/);
  assert.match(told(null, "passages"), /Untick/);
});

test("passages are those of the documents, the step's own first", () => {
  const told = page.passagesFor(STEPS, 2).map(({ passage: { id }, own }) => `${id}${own ? "!" : ""}`);
  assert.deepEqual(told, ["p2!", "p3!", "p1", "p4"]);
  assert.ok(page.passagesFor(STEPS, null).every(({ own }) => own));
});

test("a change is sent only when something is otherwise", () => {
  const passages = page.passagesFor(STEPS, 2);
  const form = (kind, values, turned = []) =>
    page.changeOf(kind, {
      step: STEPS[1], question: RUN.question, passages, turned: new Set(turned), draft: new Map([[kind, values]]),
    });
  assert.deepEqual(form("answer", " Brno "), { step: 2, answer: "Brno" });
  assert.equal(form("answer", "Prague"), null);
  assert.equal(form("question", STEPS[1].question), null);
  assert.equal(form("model", "  "), null);
  assert.deepEqual(form("passages", "", ["p3", "p1"]), { step: 2, banned: ["p3"], pinned: ["p1"] });
  assert.equal(form("passages", ""), null);
});

test("numbers in a row are told as one", () => {
  assert.deepEqual([[4], [1, 2, 3, 7], [2, 4]].map(page.named), ["step 4", "steps 1–3, 7", "steps 2, 4"]);
});

// ---------------------------------------------------------------- comparing

/** Gives what is marked in the words of both texts, within | |. */
function marked(before, after) {
  const sides = page.wordDifference(before, after);
  const whole = sides.map((side) => side.map(({ piece }) => piece).join(""));
  assert.deepEqual(whole, [before, after]);
  return sides.map((side) => side.map(({ piece, differs }) => (differs ? `|${piece}|` : piece)).join(""));
}

test("the words that only one text has are marked, with the spaces between them", () => {
  assert.deepEqual(marked("Kafka was born in Prague [1].", "Max Brod was born in Prague [2]."), [
    "|Kafka| was born in Prague |[1]|.",
    "|Max Brod| was born in Prague |[2]|.",
  ]);
  assert.deepEqual(marked("Vltava", "Vltava, the Moldau"), ["Vltava", "Vltava|, the Moldau|"]);
  assert.deepEqual(marked("", "Prague"), ["", "|Prague|"]);
  assert.deepEqual(marked("same here", "same here"), ["same here", "same here"]);
  assert.deepEqual(marked("東京は首都", "京都は首都"), ["|東|京は首都", "京|都|は首都"]);
});

test("texts too long to be compared word by word differ between their common ends", () => {
  const words = (word) => `a ${Array.from({ length: 3000 }, (_each, at) => word + at).join(" ")} z`;
  const [before, after] = marked(words("x"), words("y"));
  assert.ok(before.startsWith("a |x0 x1") && before.endsWith("x2999| z") && after.includes("|y0"));
});

test("random texts are told whole, and the same words are never marked on both sides alone", () => {
  let seed = 7;
  const next = (most) => (seed = (seed * 16807) % 2147483647) % most;
  for (let round = 0; round < 300; round++) {
    const words = () => Array.from({ length: next(12) }, () => "abcd"[next(4)]).join(" ");
    const [before, after] = [words(), words()];
    const left = marked(before, after).map((side) => side.replace(/\|[^|]*\|/g, "").replace(/\s+/g, ""));
    assert.equal(left[0], left[1]);
  }
});

test("same steps in a row are one group, others stand alone", () => {
  const same = (id) => ({ before: id, after: id, differences: [], evidence: [] });
  const other = (id) => ({ ...same(id), before: null });
  const sizes = (steps) => page.foldedSteps(steps).map((group) => group.length);
  assert.deepEqual(sizes([same(1), same(2), other(3), same(4), same(5), same(6), other(7), other(8)]), [1, 1, 1, 3, 1, 1]);
});

test("a measure's change has its sign and its share", () => {
  assert.equal(page.measuredChange("wall time ms", 2600, 1200), "−1.4 s (−54 %)");
  assert.equal(page.measuredChange("calls kept", 0, 6), "+6");
  assert.equal(page.measuredChange("input tokens", 2800, 2800), "same");
});
