// A trace document as the page works with it: every field is there and of its kind, whatever the
// document holds. What draws the page reads only this.
const LATEST_MS = 1e12;

const listOf = (value) => (Array.isArray(value) ? value : []);
const fieldsOf = (value) => (value !== null && typeof value === "object" ? value : {});
const textsOf = (value) => listOf(value).map(text);
const numberOf = (value) => (Number.isFinite(value) && Math.abs(value) <= LATEST_MS ? value : null);
const countOf = (value) => Math.max(0, numberOf(value) ?? 0);
const momentOf = (value) => (numberOf(value) === null ? null : Math.max(0, value));
const idOf = (value) => (Number.isSafeInteger(value) ? value : null);

/** Gives the run that a trace document tells of; `now` is how far it had come by then. */
function readRun(trace) {
  const told = fieldsOf(trace);
  const plan = fieldsOf(told.plan);
  const run = {
    id: text(told.run_id),
    graph: text(told.graph),
    thread: text(told.thread_id),
    parent: text(told.parent_run_id),
    change: told.change ?? null,
    question: text(told.question),
    status: knownStatus(told.status),
    startedAt: text(told.started_at),
    policy: text(told.model_policy),
    documents: text(told.documents),
    plan: {
      source: text(plan.source),
      repairs: textsOf(plan.repairs),
      revisions: textsOf(plan.revisions),
      calls: listOf(plan.calls).map(readCall),
    },
    steps: listOf(told.steps).map((step, at) => readStep(step, `step-${at}`)),
    voided: listOf(told.voided).map((step, at) => readStep(step, `void-${at}`)),
    synthesis: listOf(told.synthesis).map(readCall),
    answer: text(told.answer),
    shortAnswer: text(told.short_answer),
    citations: listOf(told.citations).map(readCitation),
    abstained: told.abstained === true,
    degraded: told.degraded === true,
    stopReason: text(told.stop_reason),
    usage: readUsage(told.usage),
    budget: readNamed(told.budget, numberOf),
    warnings: textsOf(told.warnings),
    error: text(told.error),
    versions: readNamed(told.versions, text),
  };
  run.running = run.status === "running";
  const named = run.steps.filter((step) => step.id !== null).reverse();
  run.byId = new Map(named.map((step) => [step.id, step]));
  run.byKey = new Map([...run.steps, ...run.voided].map((step) => [step.key, step]));
  run.now = latestMoment(run);
  return run;
}

/** Gives a running run as it stands `elapsed` milliseconds after its start. */
function runAt(run, elapsed) {
  if (!run.running || !Number.isFinite(elapsed)) return run;
  const deadline = run.budget.find(([name]) => name === "deadline")?.[1];
  const limit = deadline > 0 ? deadline * 1000 : run.now + 600_000;
  return { ...run, now: Math.max(run.now, Math.min(elapsed, limit)) };
}

function readStep(value, key) {
  const step = fieldsOf(value);
  return {
    key,
    id: idOf(step.id),
    question: text(step.question),
    asked: text(step.asked),
    needs: listOf(step.depends_on).map(idOf).filter((id) => id !== null),
    round: countOf(step.round),
    status: knownStatus(step.status),
    fromRun: text(step.from_run),
    given: step.given === true,
    planned: momentOf(step.planned_ms),
    ready: momentOf(step.ready_ms),
    started: momentOf(step.started_ms),
    retrieved: momentOf(step.retrieved_ms),
    finished: momentOf(step.finished_ms),
    retrievalMode: text(step.retrieval_mode),
    space: text(step.embedding_space),
    evidence: listOf(step.evidence).map(readEvidence),
    earlier: listOf(step.earlier).map(readEarlier),
    calls: listOf(step.calls).map(readCall),
    tools: listOf(step.tools).map(readToolUse),
    reasoning: text(step.reasoning),
    answer: text(step.answer),
    citations: listOf(step.citations).map(readCitation),
    degraded: step.degraded === true,
    warnings: textsOf(step.warnings),
    error: text(step.error),
  };
}

function readCall(value) {
  const call = fieldsOf(value);
  return {
    purpose: text(call.purpose),
    prompt: listOf(call.prompt).map(readMessage),
    output: text(call.output),
    toolCalls: listOf(call.tool_calls).map(readToolCall),
    backend: text(call.backend),
    model: text(call.model),
    reason: text(call.reason),
    attempts: listOf(call.attempts).map(readAttempt),
    queued: countOf(call.queued_ms),
    started: countOf(call.started_ms),
    firstToken: momentOf(call.first_token_ms),
    took: countOf(call.ms),
    inputTokens: countOf(call.input_tokens),
    outputTokens: countOf(call.output_tokens),
    estimated: call.tokens_estimated === true,
    degraded: call.degraded === true,
    fromJournal: call.from_journal === true,
    fromRun: text(call.from_run),
    error: text(call.error),
  };
}

function readMessage(value) {
  const message = fieldsOf(value);
  return { role: text(message.role), content: text(message.content) };
}

function readAttempt(value) {
  const attempt = fieldsOf(value);
  return {
    backend: text(attempt.backend),
    model: text(attempt.model),
    reason: text(attempt.reason),
    outcome: text(attempt.outcome),
    detail: text(attempt.detail),
    started: countOf(attempt.started_ms),
    firstToken: momentOf(attempt.first_token_ms),
    took: countOf(attempt.ms),
  };
}

function readEvidence(value) {
  const item = fieldsOf(value);
  const passage = fieldsOf(item.passage);
  const scores = fieldsOf(item.scores);
  return {
    rank: idOf(item.rank),
    score: numberOf(item.score),
    scores: {
      bm25: numberOf(scores.bm25),
      dense: numberOf(scores.dense),
      graph: numberOf(scores.graph),
      fused: numberOf(scores.fused),
    },
    cited: item.cited === true,
    passage: text(passage.id),
    text: text(passage.text),
    title: text(passage.title),
    source: text(passage.source),
  };
}

function readEarlier(value) {
  const known = fieldsOf(value);
  return {
    id: idOf(known.id),
    question: text(known.question),
    answer: text(known.answer),
    reason: text(known.reason),
    similarity: numberOf(known.similarity),
  };
}

function readToolCall(value) {
  const call = fieldsOf(value);
  const given = readNamed(call.arguments, (each) => JSON.stringify(each));
  return { tool: text(call.tool), arguments: given, error: text(call.error) };
}

function readToolUse(value) {
  const use = fieldsOf(value);
  return {
    ...readToolCall(use),
    output: text(use.output),
    passage: text(use.passage_id),
    started: countOf(use.started_ms),
    took: countOf(use.ms),
    fromJournal: use.from_journal === true,
  };
}

function readCitation(value) {
  const citation = fieldsOf(value);
  return {
    passage: text(citation.passage_id),
    source: text(citation.source),
    title: text(citation.title),
    quote: text(citation.quote),
    step: idOf(citation.step),
  };
}

function readUsage(value) {
  const usage = fieldsOf(value);
  return {
    calls: countOf(usage.llm_calls),
    inputTokens: countOf(usage.input_tokens),
    outputTokens: countOf(usage.output_tokens),
    wall: countOf(usage.wall_ms),
  };
}

/** Gives the entries of an object as pairs: their names must not meet an object of ours. */
const readNamed = (value, read) =>
  Object.entries(fieldsOf(value)).map(([name, each]) => [name, read(each)]);

/** Every question put to a model, in the order of the story. */
function callsOf(run) {
  const steps = [...run.voided, ...run.steps];
  return [...run.plan.calls, ...steps.flatMap((step) => step.calls), ...run.synthesis];
}

/** Whether a call was paid for elsewhere: by an earlier part of this run, or by another run. */
const isKeptCall = (call) => call.fromJournal || call.fromRun !== "";

/** Where a step's record is from, if this run did not make it: in words, or "". */
function keptFrom(step) {
  if (step.given) return "answer given";
  if (step.fromRun) return `kept from ${step.fromRun}`;
  return step.calls.length && step.calls.every(isKeptCall) ? keptInWords(step.calls[0]) : "";
}

function keptInWords(call) {
  if (call.fromRun) return `kept from ${call.fromRun}`;
  return call.fromJournal ? "from the journal" : "";
}

const isUnderWay = (call, run) =>
  run.running && call.took === 0 && !isKeptCall(call) && !call.error;

/** When a call ended; one that is under way goes on until now. */
function endOfCall(call, run) {
  return isUnderWay(call, run) ? Math.max(run.now, call.started) : call.started + call.took;
}

/** When a step ended, or how far it has come. */
function endOfStep(step, run) {
  if (step.finished !== null) return step.finished;
  if (run.running && step.status === "running") return run.now;
  const ends = step.calls.map((call) => call.started + call.took);
  return Math.max(step.started ?? 0, step.retrieved ?? 0, ...ends);
}

function latestMoment(run) {
  const steps = [...run.steps, ...run.voided];
  const moments = steps.flatMap((step) =>
    [step.planned, step.ready, step.started, step.retrieved, step.finished]);
  const calls = callsOf(run).filter((call) => !isKeptCall(call));
  const attempts = calls.flatMap((call) =>
    call.attempts.map((each) => call.started + each.started + each.took));
  const tools = steps.flatMap((step) => step.tools.map((use) => use.started + use.took));
  const ends = calls.map((call) => call.started + call.took);
  const all = [...moments, ...attempts, ...tools, ...ends, run.usage.wall];
  return all.reduce((latest, each) => Math.max(latest, each ?? 0), 0);
}

/** Who really answered: each model once, with how many calls it answered. */
function answeredBy(calls) {
  const found = new Map();
  for (const call of calls) {
    if (!call.backend) continue;
    const name = modelName(call.backend, call.model);
    const { calls, degraded } = found.get(name) ?? { calls: 0, degraded: false };
    found.set(name, { name, calls: calls + 1, degraded: degraded || call.degraded });
  }
  return [...found.values()];
}

/** Which part is to be looked at first: what went wrong, what goes on, or the first step. */
function firstToLookAt(run) {
  const wanted = run.status === "interrupted" ? "failed" : run.status;
  const found = run.steps.filter((step) => step.status === wanted && wanted !== "answered");
  if (run.running && !found.length && run.synthesis.length) return "answer";
  const step = run.running ? (found.at(-1) ?? run.steps.at(-1)) : (found[0] ?? run.steps[0]);
  return step?.key ?? partsOf(run)[0];
}

/** The parts of a run that can be looked at, in their order. */
function partsOf(run) {
  const steps = [...run.voided, ...run.steps].map((step) => step.key);
  const hasPlan = run.graph !== "chat" || run.plan.calls.length > 0;
  const hasAnswer = run.graph !== "chat" || run.synthesis.length > 0 || !(hasPlan || steps.length);
  return [...(hasPlan ? ["plan"] : []), ...steps, ...(hasAnswer ? ["answer"] : [])];
}
