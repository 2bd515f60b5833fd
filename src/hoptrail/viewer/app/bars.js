// What was waited for and done, when: the bars of the plan, of each step and of the answer.
const SHORTEST_PAUSE = 1;

/** Gives the rows {key, name, question, status, kept, isVoid, bars, from, to} of a run. */
function waterfallRows(run) {
  const { plan, synthesis } = run;
  return [
    ...(plan.calls.length ? [rowOfCalls("plan", "Plan", plan.calls, run)] : []),
    ...[...run.voided, ...run.steps].map((step) => rowOfStep(step, run)),
    ...(synthesis.length ? [rowOfCalls("answer", "Answer", synthesis, run)] : []),
  ];
}

function rowOfCalls(key, name, calls, run) {
  const bars = calls.flatMap((call) => callBars(call, run));
  const kept = calls.every(isKeptCall) ? keptInWords(calls[0]) : "";
  return { key, name, question: "", status: "", kept, isVoid: false, bars, ...spanOfBars(bars) };
}

function rowOfStep(step, run) {
  const { key, status } = step;
  const bars = stepBars(step, run);
  const isVoid = key.startsWith("void");
  const [name, question] = [String(step.id ?? "?"), step.asked || step.question];
  return { key, name, question, status, kept: keptFrom(step), isVoid, bars, ...spanOfBars(bars) };
}

function spanOfBars(bars) {
  if (!bars.length) return { from: 0, to: 0 };
  const [starts, ends] = [bars.map((bar) => bar.from), bars.map((bar) => bar.to)];
  return { from: Math.min(...starts), to: Math.max(...ends) };
}

function stepBars(step, run) {
  if (keptFrom(step)) return [];
  const isStill = (status) => run.running && step.status === status;
  const ready = step.ready ?? (isStill("waiting") ? run.now : step.started);
  const searching = isStill("running") && !step.calls.length ? run.now : null;
  const uses = step.tools.filter((use) => !use.fromJournal);
  const bars = [
    barOf("waiting", step.planned, ready),
    barOf("queue", step.ready, step.started),
    barOf("retrieval", step.started, step.retrieved ?? searching),
    ...step.calls.flatMap((call) => callBars(call, run)),
    ...uses.map((use) => barOf("tool", use.started, use.started + use.took, use.tool)),
  ];
  return bars.filter(Boolean).sort((one, other) => one.from - other.from);
}

/** A stretch of time, or null where there is none; `note` says more about it. */
function barOf(kind, from, to, note = "", atLeast = 0) {
  if (from === null || to === null || !(to - from > atLeast)) return null;
  return { kind, from, to, note };
}

/** Gives the bars of a call: its queueing, each attempt that failed, and the one that answered. */
function callBars(call, run) {
  if (isKeptCall(call)) return [];
  const { started, firstToken, attempts } = call;
  const end = endOfCall(call, run);
  const name = modelName(call.backend, call.model);
  const queued = barOf("queue", started - call.queued, started);
  const tried = attempts.length
    ? attempts.flatMap((_attempt, at) => attemptBars(call, at, end))
    : answerBars(started, firstToken ?? started, end, name);
  return [queued, ...tried].filter(Boolean);
}

function attemptBars(call, at, end) {
  const attempt = call.attempts[at];
  const note = attemptNote(call.attempts, at);
  const { from, to } = spanOfAttempt(call, attempt, end);
  const last = at ? spanOfAttempt(call, call.attempts[at - 1], end).to : call.started;
  const why = at ? "before the next attempt" : "choosing a backend";
  const pause = barOf("pause", last, from, why, SHORTEST_PAUSE);
  if (attempt.outcome !== "ok" && attempt.outcome !== "running") {
    return [pause, { kind: "failed", from, to, note: `${note}, ${attempt.outcome || "failed"}` }];
  }
  const silent = attempt.outcome === "running" ? to : from;
  const first = attempt.firstToken === null ? silent : call.started + attempt.firstToken;
  return [pause, ...answerBars(from, Math.min(Math.max(first, from), to), to, note)];
}

function spanOfAttempt(call, attempt, end) {
  const from = call.started + attempt.started;
  return { from, to: attempt.outcome === "running" ? Math.max(from, end) : from + attempt.took };
}

const answerBars = (from, first, to, note) =>
  [barOf("first", from, first, note), barOf("generation", first, to, note)];

/** `ollama:qwen3:8b`, `retry on …`, `failover to …`. */
function attemptNote(attempts, at) {
  const name = modelName(attempts[at].backend, attempts[at].model);
  const turn = attemptTurn(attempts, at);
  if (turn === "first") return name;
  return turn === "retry" ? `retry on ${name}` : `failover to ${name}`;
}

function attemptTurn(attempts, at) {
  if (at === 0) return "first";
  return attempts[at - 1].backend === attempts[at].backend ? "retry" : "failover";
}

/** How long a row's own work took: neither what it waited for first, nor between its calls. */
function workOf(row) {
  const work = row.bars.filter((bar) => bar.kind !== "waiting");
  if (!row.status) return work.reduce((sum, bar) => sum + bar.to - bar.from, 0);
  return work.length ? row.to - Math.min(...work.map((bar) => bar.from)) : 0;
}

/** Gives the marks of the time axis: round numbers, at most `most` of them beside 0. */
function timeTicks(total, most = 5) {
  if (!(total > 0)) return [0];
  const power = 10 ** Math.floor(Math.log10(total / most));
  const steps = [1, 2, 5, 10].map((factor) => factor * power);
  const step = steps.find((each) => total / each <= most) ?? total;
  return Array.from({ length: Math.floor(total / step + 1e-9) + 1 }, (_, at) => at * step);
}
