// The longest chain of a run: what it could not have been faster than, whatever ran beside it.
const TOLERANCE_MS = 1;
const NO_CHAIN = { part: null, total: 0, cut: 0 };

/**
 * Gives the longest chain of plan, steps and answer, each waiting for the one before it:
 * {ms, links: [{key, label, ms}]}. A step follows the answers it needs, and the part of the plan
 * that was written before it was known.
 */
function longestChain(run) {
  const done = [];
  for (const part of chainParts(run)) {
    const { part: before, total, cut } = longestOf(chainBefore(part, done));
    done.push({ ...part, before, cut, total: total + part.ms });
  }
  const longer = (one, other) => (other.total >= (one?.total ?? 0) ? other : one);
  const last = done.reduce(longer, null);
  return { ms: last?.total ?? 0, links: chainLinks(last) };
}

function chainParts(run) {
  const calls = run.plan.calls.filter((call) => !isKeptCall(call));
  const steps = run.steps.filter((step) => step.started !== null);
  const begun = [
    ...calls.map((call) => chainPlan(call, run)),
    ...steps.map((step) => chainStep(step, run)),
  ];
  return [...begun.sort((one, other) => one.from - other.from), ...chainAnswer(run)];
}

const PLAN_LABELS = new Map([["next", "choice"], ["revision", "plan again"]]);

function chainPlan(call, run) {
  const label = PLAN_LABELS.get(call.purpose) ?? "plan";
  const ms = endOfCall(call, run) - call.started;
  const kind = call.purpose === "plan" ? "plan" : "after";
  return { key: "plan", label, kind, from: call.started, ms };
}

function chainStep(step, run) {
  const { key, id, needs, started } = step;
  const ms = keptFrom(step) ? 0 : Math.max(0, endOfStep(step, run) - started);
  const planned = step.planned ?? started;
  return { key, label: String(id ?? "?"), kind: "step", from: started, ms, id, needs, planned };
}

function chainAnswer(run) {
  const calls = run.synthesis.filter((call) => !isKeptCall(call));
  if (!calls.length) return [];
  const from = Math.min(...calls.map((call) => call.started));
  const to = Math.max(...calls.map((call) => endOfCall(call, run)));
  return [{ key: "answer", label: "answer", kind: "after", from, ms: to - from }];
}

/** What a part may have waited for, with how long each chain took until it could go on. */
function chainBefore(part, done) {
  if (part.kind === "plan") return done.filter((each) => each.kind === "plan").map(wholeChain);
  if (part.kind === "after") {
    const isOver = (each) => each.from + each.ms <= part.from + TOLERANCE_MS;
    return done.filter(isOver).map(wholeChain);
  }
  const isNeeded = (each) => each.kind === "step" && part.needs.includes(each.id);
  const needed = done.filter(isNeeded).map(wholeChain);
  const plan = done.findLast((each) => each.kind !== "step" && each.from <= part.planned);
  if (!plan) return needed;
  const written = Math.min(plan.ms, part.planned - plan.from);
  return [...needed, { part: plan, total: plan.total - plan.ms + written, cut: plan.ms - written }];
}

const wholeChain = (part) => ({ part, total: part.total, cut: 0 });

const longestOf = (chains) =>
  chains.reduce((one, other) => (other.total > one.total || !one.part ? other : one), NO_CHAIN);

function chainLinks(last) {
  const links = [];
  for (let part = last, cut = 0; part; cut = part.cut, part = part.before) {
    links.unshift({ key: part.key, label: part.label, ms: part.ms - cut });
  }
  return links;
}

/** `plan → 1 → 3 → answer`; of a long chain, both its ends. */
function chainSentence(links, most = 9) {
  const labels = links.map((link) => link.label);
  if (labels.length <= most) return labels.join(" → ");
  const half = Math.floor(most / 2);
  return [...labels.slice(0, half), "…", ...labels.slice(-half)].join(" → ");
}
