// The part of a run that is looked at: the plan, a step, or the answer, whole.

function Card({ run, view, chain }) {
  const step = run.byKey.get(view.selected);
  const name = step ? "step" : view.selected;
  return html`<article class="panel card" aria-labelledby="card-title" key=${view.selected}>
    ${step && html`<${StepCard} step=${step} run=${run} view=${view} chain=${chain} />`}
    ${name === "plan" && html`<${PlanCard} run=${run} view=${view} />`}
    ${name === "answer" && html`<${AnswerCard} run=${run} view=${view} />`}
  </article>`;
}

function CardHead({ title, status, took, view, children }) {
  return html`<header class="card-head">
    <h2 id="card-title" tabindex="-1">${title}</h2>
    ${status && html`<span class=${`badge ${status}`}><${StatusMark} status=${status} />
      ${statusWord(status)}</span>`}
    ${took && html`<span class="soft">${took}</span>`}
    ${children}
    <span class="push card-steps">
      <button type="button" class="plain" aria-label="Previous part" title="Previous (k)"
        onClick=${() => view.move(-1)}>↑</button>
      <button type="button" class="plain" aria-label="Next part" title="Next (j)"
        onClick=${() => view.move(1)}>↓</button>
    </span>
  </header>`;
}

function StepCard({ step, run, view, chain }) {
  const isVoid = step.key.startsWith("void");
  const canChange = view.actions?.change && !isVoid && step.id !== null && !run.running;
  return html`<${StepHead} ...${{ step, run, view, chain, isVoid }} />
    ${isVoid && html`<${Note}>Begun for a plan that its backend broke off. What it cost counts;
      ${" "}its answer does not.<//>`}
    <${Questions} ...${{ step, run, view }} />
    <${StepAnswer} ...${{ step, run, view }} />
    ${step.warnings.map((warning, at) => html`<${Note} key=${at} kind="warning">${warning}<//>`)}
    ${canChange && html`<p><button type="button" onClick=${() => view.actions.change(step.id)}>
      Change and rerun from here</button></p>`}
    <${EvidenceTable} ...${{ step, run, view }} />
    <${Earlier} ...${{ step, run, view }} />
    <${ToolUses} uses=${step.tools} />
    <${Calls} calls=${step.calls} run=${run} told=${step.error} />
    ${step.space && html`<p class="soft small">Embedding space
      ${" "}<span class="mono">${said(step.space)}</span></p>`}`;
}

function StepHead({ step, run, view, chain, isVoid }) {
  const kept = keptFrom(step);
  const took = step.started === null || kept ? "" : duration(endOfStep(step, run) - step.started);
  const isOnChain = chain.links.length > 1 && chain.links.some((link) => link.key === step.key);
  const title = run.graph === "chat" ? "Message" : `Step ${step.id ?? "?"}`;
  return html`<${CardHead} title=${title} status=${step.status} took=${took} view=${view}>
    ${kept && html`<span class="badge">${said(kept)}</span>`}
    ${step.round > 0 && html`<span class="badge">asked in round ${step.round + 1}</span>`}
    ${step.degraded && html`<span class="badge degraded">degraded</span>`}
    ${isVoid && html`<span class="badge">void</span>`}
    ${isOnChain && html`<span class="soft"><i class="chain-mark" aria-hidden="true">◆</i>
      ${" "}on the longest chain</span>`}
  <//>`;
}

/** The question as planned and, where that differs, as asked: what was filled in is marked. */
function Questions({ step, run, view }) {
  const { question, asked } = step;
  const [before, after] = useMemo(() => wordDifference(question, asked), [question, asked]);
  const linked = (piece) => html`<${References} ...${{ piece, run, view }} />`;
  if (!asked || asked === question) {
    return html`<p class="step-question" dir="auto">${linked(question)}</p>
      <${Needs} ...${{ step, run, view }} />`;
  }
  const planned = ({ piece, differs }) =>
    html`<span class=${differs ? "gone" : ""}>${linked(piece)}</span>`;
  const filled = ({ piece, differs }) => (differs ? html`<ins>${piece}</ins>` : piece);
  return html`<dl class="questions">
    <div><dt>Planned</dt><dd dir="auto">${before.map(planned)}</dd></div>
    <div><dt>Asked</dt><dd dir="auto" class="step-question">${after.map(filled)}</dd></div>
  </dl><${Needs} ...${{ step, run, view }} />`;
}

/** A planned question, in which `#1` leads to step 1. */
function References({ piece: question, run, view }) {
  return question.split(/(#\d{1,4})/).map((piece, at) => {
    const step = at % 2 ? run.byId.get(Number(piece.slice(1))) : null;
    return step ? html`<${StepLink} ...${{ step, view }}>${piece}<//>` : piece;
  });
}

function StepLink({ step, view, children }) {
  return html`<button type="button" class="reference" title=${`to step ${step.id ?? "?"}`}
    onClick=${() => view.select(step.key)}>${children}</button>`;
}

function Needs({ step, run, view }) {
  const needed = neededBy(step, run);
  if (!needed.length) return null;
  const links = needed.map((each, at) =>
    html`${at > 0 && ", "}<${StepLink} step=${each} view=${view}>step ${each.id}<//>`);
  return html`<p class="soft small">Needs ${links}</p>`;
}

function StepAnswer({ step, run, view }) {
  if (step.error) return html`<${Note} kind="failed">${step.error}<//>`;
  if (!step.answer && !step.reasoning) {
    const isMissing = step.status === "abstained";
    return isMissing && html`<${Note} kind="warning">Nothing that was found answers this.<//>`;
  }
  const cites = (passage) => step.citations.some((citation) => citation.passage === passage);
  const marks = run.citations.map(({ passage }, at) => cites(passage)
    && html`<${CitationMark} number=${at + 1} run=${run} view=${view} />`);
  return html`<div class=${`step-answer ${step.status}${litClass(view.lit.steps.has(step.key))}`}>
    ${step.answer && html`<p class="said" dir="auto">${step.answer} ${marks}</p>`}
    ${step.reasoning && html`<p class="soft" dir="auto">${step.reasoning}</p>`}
  </div>`;
}

const EARLIER_REASONS = new Map([
  ["reference", "the step refers to it"],
  ["similar", "similar to the question"],
  ["memory", "remembered from earlier runs"],
]);

/** What the step was told of besides its passages. */
function Earlier({ step, run, view }) {
  if (!step.earlier.length) return null;
  const size = amount(step.earlier.length, "answer");
  return html`<section class="part">
    <${PartHead} title="Context from earlier answers" aside=${size} />
    <ul class="earlier">${step.earlier.map((known, at) =>
      html`<li key=${at}><${Known} ...${{ known, run, view }} /></li>`)}</ul>
  </section>`;
}

function Known({ known, run, view }) {
  const { id, question, answer, reason, similarity } = known;
  const step = reason === "memory" ? undefined : run.byId.get(id);
  const why = EARLIER_REASONS.get(reason) ?? reason;
  return html`<p>${step && html`<${StepLink} ...${{ step, view }}>step ${id}<//>${" "}`}
      <b>${said(answer)}</b> <span class="soft">${said(question)}</span></p>
    <p class="soft small">${said(why)}
      ${similarity !== null && `, similarity ${similarity.toFixed(2)}`}</p>`;
}

const PLAN_SENTENCES = new Map([
  ["model", "A model took the question apart."],
  ["journal", "The plan was made before; it was taken up from the journal."],
  ["gate", "The question is a single look-up: no plan was needed, and no call spent on one."],
  ["given", "The plan was passed in by the caller."],
  ["fallback", "The plan could not be read: the question was asked as one step."],
]);

const STEP_BY_STEP =
  "A model chose one step at a time, each from what the steps before it found.";

function planInWords(run) {
  if (planStatus(run) === "failed") return "No plan was made.";
  if (planStatus(run) === "running") return "A model is taking the question apart.";
  if (run.graph === "iterative" && run.plan.source === "model") return STEP_BY_STEP;
  return PLAN_SENTENCES.get(run.plan.source) ?? run.plan.source;
}

function PlanCard({ run, view }) {
  const { calls, repairs, revisions } = run.plan;
  return html`<${CardHead} title="Plan" status=${planStatus(run)} view=${view} />
    <p>${planInWords(run)}</p>
    <ol class="planned">${run.steps.map((step) => html`<li key=${step.key}>
      <${StepLink} ...${{ step, view }}>${step.id ?? "?"}<//> ${said(step.question)}</li>`)}</ol>
    ${repairs.map((repair, at) =>
      html`<${Note} key=${at} kind="warning">Repaired: ${repair}<//>`)}
    ${revisions.map((revision, at) => html`<${Note} key=${at}>Asked differently: ${revision}<//>`)}
    <${Calls} calls=${calls} run=${run} />`;
}

function AnswerCard({ run, view }) {
  const { answer, shortAnswer, synthesis } = run;
  const without = run.running
    ? "The answer is written when the steps have ended."
    : "No call was needed for it: it follows from the steps.";
  return html`<${CardHead} title="Answer" status=${answerStatus(run)} view=${view} />
    ${answer && html`<p class="said" dir="auto">${shortAnswer || answer}</p>`}
    ${!synthesis.length && html`<p class="soft">${without}</p>`}
    <${Calls} calls=${synthesis} run=${run} />`;
}
