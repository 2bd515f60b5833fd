// The plan as a graph: what each step needs, what it was told of, and how it stands.
const PLAN_SOURCES = new Map([
  ["model", "Planned"],
  ["journal", "Plan from the journal"],
  ["gate", "No plan needed"],
  ["given", "Plan given"],
  ["fallback", "Plan unreadable"],
]);
const FOUND_NOTHING = ["abstained", "failed"];

/**
 * Gives the nodes {at, key, kind, status, step or label} and edges {from, to, kind} of a plan.
 * `key` is what is looked at when the node is chosen; `told` are the edges of similar context.
 */
function planShape(run) {
  const parts = partsOf(run);
  const nodes = [
    ...(parts.includes("plan") ? [planNode(run)] : []),
    ...run.steps.map((step) => ({
      at: step.key, key: step.key, kind: "step", status: step.status, step,
    })),
    ...roundsOf(run).map(roundNode),
    ...(parts.includes("answer") ? [answerNode(run)] : []),
  ];
  const there = new Set(nodes.map((node) => node.at));
  const edges = [...stepEdges(run), ...roundEdges(run), ...answerEdges(run)]
    .filter(({ from, to }) => there.has(from) && there.has(to));
  return { nodes, edges, told: similarEdges(run) };
}

const planNode = (run) => ({
  at: "plan", key: "plan", kind: "pill", status: planStatus(run), label: planLabel(run),
  short: "Plan", isWarned: run.plan.repairs.length > 0,
});

const roundNode = (round) => ({
  at: `again-${round}`, key: "plan", kind: "pill", status: "answered", label: "Asked differently",
  short: "Again", isWarned: false,
});

const answerNode = (run) => ({
  at: "answer", key: "answer", kind: "pill", status: answerStatus(run), label: "Answer",
  short: "Answer", isWarned: false,
});

function planLabel(run) {
  if (run.graph === "iterative" && run.plan.source === "model") return "Step by step";
  if (planStatus(run) !== "answered") return planStatus(run) === "running" ? "Planning" : "Plan";
  return PLAN_SOURCES.get(run.plan.source) ?? "Plan";
}

function planStatus(run) {
  if (run.steps.length) return "answered";
  if (run.running) return "running";
  const isFailed = run.status === "failed" || run.plan.calls.some((call) => call.error);
  return isFailed ? "failed" : "answered";
}

function answerStatus(run) {
  if (run.synthesis.length || run.answer) return run.status;
  return ["running", "failed", "interrupted"].includes(run.status) ? "waiting" : run.status;
}

/** The rounds in which what found nothing was asked differently. */
function roundsOf(run) {
  const rounds = new Set(run.steps.map((step) => step.round).filter((round) => round > 0));
  return [...rounds].sort((one, other) => one - other);
}

/** The steps that a step needs, each one that stands before it: so there is no circle. */
function neededBy(step, run) {
  const at = run.steps.indexOf(step);
  const before = new Map(run.steps.slice(0, at).map((each) => [each.id, each]));
  return [...new Set(step.needs)].map((id) => before.get(id)).filter(Boolean);
}

function stepEdges(run) {
  return run.steps.flatMap((step, at) => {
    const to = step.key;
    const needed = neededBy(step, run).map((each) => ({ from: each.key, to, kind: "needs" }));
    if (needed.length || step.round > 0) return needed;
    const before = run.graph === "iterative" ? run.steps[at - 1] : undefined;
    if (before) return [{ from: before.key, to, kind: "after" }];
    return [{ from: "plan", to, kind: "planned" }];
  });
}

function roundEdges(run) {
  return roundsOf(run).flatMap((round) => {
    const again = `again-${round}`;
    const missing = run.steps.filter((step) =>
      step.round < round && FOUND_NOTHING.includes(step.status));
    const latest = Math.max(...missing.map((step) => step.round));
    const before = missing.filter((step) => step.round === latest).map((step) => step.key);
    const isOfRound = (step) => step.round === round;
    const members = run.steps.filter(isOfRound);
    const begun = members.filter((step) => !neededBy(step, run).some(isOfRound));
    return [
      ...(before.length ? before : ["plan"]).map((from) => ({ from, to: again, kind: "planned" })),
      ...begun.map((step) => ({ from: again, to: step.key, kind: "planned" })),
    ];
  });
}

function answerEdges(run) {
  const needed = run.steps.flatMap((step) => neededBy(step, run)).map((step) => step.key);
  const followed = new Set([...needed, ...roundEdges(run).map((edge) => edge.from)]);
  const keys = run.steps.map((step) => step.key);
  const isLast = (key, at) =>
    run.graph === "iterative" ? at === keys.length - 1 : !followed.has(key);
  const last = keys.filter(isLast);
  return (last.length ? last : ["plan"]).map((from) => ({ from, to: "answer", kind: "needs" }));
}

/** What steps were told of because it was similar, not because they need it. */
function similarEdges(run) {
  return run.steps.flatMap((step) =>
    step.earlier.flatMap(({ id, reason, similarity }) => {
      const known = run.byId.get(id);
      if (reason !== "similar" || !known || known === step) return [];
      return [{ from: known.key, to: step.key, kind: "similar", similarity }];
    }),
  );
}
