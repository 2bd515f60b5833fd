// Two runs side by side.
const FOLDED_FROM = 3; // as many same steps in a row are one line
const TOLD_ABOVE = new Set(["answer", "change"]);
const SIDES = new Map([
  ["child", ["Original", "Changed"]],
  ["parent", ["Changed", "Original"]],
]);

/**
 * @param traces  the traces of both runs
 * @param linkTo  gives the address of a run's page: linkTo(0 or 1, step id or undefined)
 */
function ComparisonView({ comparison, traces, linkTo }) {
  const sides = SIDES.get(comparison.related) ?? ["First run", "Second run"];
  const [before, after] = traces.map(({ answer }) => text(answer));
  const { steps, measures, citations } = comparison;
  const others = comparison.differences.filter(({ name }) => !TOLD_ABOVE.has(name));
  return html`<main class="compare">
    <h1>Two runs compared</h1>
    <div class="pair">
      ${traces.map((trace, side) => html`<${RunHead} key=${side} trace=${trace}
        side=${sides[side]} address=${linkTo(side)} />`)}
    </div>
    <${FirstDifference} ...${{ comparison, traces, sides }} />
    <section><h2>Answers</h2><${Answers} ...${{ before, after, sides }} /></section>
    <div class="pair">
      ${measures.length > 0 && html`<${Measures} ...${{ measures, sides }} />`}
      ${citations.length > 0 && html`<${Citations} changes=${citations} />`}
    </div>
    ${others.length > 0 && html`<section><h2>The runs</h2>
      <${Differences} differences=${others} sides=${sides} /></section>`}
    <section><h2>Steps</h2>
      ${steps.length === 0 && html`<p class="soft">Neither run has a step.</p>`}
      ${foldedSteps(steps).map((group, at) => html`<${StepGroup} key=${at} steps=${group}
        ...${{ traces, sides, linkTo }} />`)}
    </section>
  </main>`;
}

function RunHead({ trace, side, address }) {
  const usage = trace.usage ?? {};
  return html`<section class="panel runhead" aria-label=${side}>
    <p class="eyebrow"><span>${side}</span> <${StatusBadge} status=${trace.status} />
      ${trace.degraded && html` <span class="badge degraded">degraded</span>`}</p>
    <p dir="auto"><a class="question" href=${address}>${text(trace.question)}</a></p>
    <p class="soft"><${When} time=${trace.started_at} /> · ${duration(usage.wall_ms)} ·${" "}
      ${amount(usage.llm_calls ?? 0, "call")}</p>
    <p class="soft mono">${text(trace.run_id)}</p>
  </section>`;
}

function FirstDifference({ comparison, traces, sides }) {
  const forks = new Map([["child", [1]], ["parent", [0]], ["sibling", [0, 1]]]);
  const changed = forks.get(comparison.related) ?? [];
  return html`<section class="panel first" aria-label="What differs first">
    ${changed.map((side) => traces[side].change && html`<p key=${side} class="soft">
      ${sides[side]}: ${changeInWords(traces[side].change)}.</p>`)}
    <h2>What differs first</h2>
    <p class="sentence">${text(comparison.first) || "Nothing differs."}</p>
  </section>`;
}

function Answers({ before, after, sides }) {
  if (before !== after)
    return html`<div class="pair"><${SideBySide} ...${{ before, after, sides }} /></div>`;
  return html`<p class="written" dir="auto">${before || html`<${Nothing} />`}${" "}
    <span class="badge">the same in both</span></p>`;
}

function Measures({ measures, sides }) {
  const line = ({ name, before, after }) => html`<tr key=${name}>
    <th scope="row">${text(name).replace(/ ms$/, "")}</th>
    <td class="number">${measured(name, before)}</td>
    <td class="number">${measured(name, after)}</td>
    <td class="number delta">${measuredChange(name, before, after)}</td></tr>`;
  const head = (words) => html`<th key=${words} scope="col" class="number">${words}</th>`;
  return html`<section><h2>Time and calls</h2><table class="measures">
    <thead><tr><td></td>${[...sides, "Difference"].map(head)}</tr></thead>
    <tbody>${measures.map(line)}</tbody></table></section>`;
}

const measured = (name, value) =>
  text(name).endsWith(" ms")
    ? duration(value)
    : Number(value).toLocaleString("en", { maximumFractionDigits: 1 });

/** `−1.2 s (−45 %)`, or `same`. */
function measuredChange(name, before, after) {
  if (measured(name, before) === measured(name, after)) return "same";
  const change = after - before;
  const shown = measured(name, Math.abs(change));
  const sign = change < 0 ? "−" : "+";
  const share = Math.round((Math.abs(change) / before) * 100);
  return `${sign}${shown}${before > 0 ? ` (${sign}${share} %)` : ""}`;
}

function Differences({ differences, sides }) {
  const told = ({ name, before, after }) => html`<div key=${name} class="difference">
    <p class="name">${text(name)}</p>
    <div class="pair">
      <${SideBySide} sides=${sides} before=${text(before)} after=${text(after)} /></div></div>`;
  return html`<div class="differences">${differences.map(told)}</div>`;
}

/** Gives the steps in groups of one, but those that are the same in a row in one group. */
function foldedSteps(steps) {
  const groups = [];
  for (const step of steps) {
    const last = groups.at(-1);
    if (last && isSameStep(step) && isSameStep(last[0])) last.push(step);
    else groups.push([step]);
  }
  const alone = (group) => group.map((step) => [step]);
  return groups.flatMap((group) => (group.length < FOLDED_FROM ? alone(group) : [group]));
}

const isSameStep = ({ before, after, differences, evidence }) =>
  before !== null && after !== null && differences.length === 0 && evidence.length === 0;

function StepGroup({ steps, ...shared }) {
  if (steps.length === 1) {
    const View = isSameStep(steps[0]) ? SameStep : StepDifference;
    return html`<${View} step=${steps[0]} ...${shared} />`;
  }
  const kept = steps.filter((step) => step.kept).length;
  const ids = named(steps.map(({ after }) => after)).replace(/^steps? /, "");
  return html`<details class="folded">
    <summary>${amount(steps.length, "step")} the same: ${ids}
      ${kept > 0 && `, ${kept === steps.length ? "all" : kept} of them kept`}</summary>
    ${steps.map((step) => html`<${SameStep} key=${step.after} step=${step} ...${shared} />`)}
  </details>`;
}

function SameStep({ step, linkTo }) {
  return html`<p class="same"><a href=${linkTo(1, step.after)}>${stepNumbers(step)}</a>
    <span dir="auto">${text(step.question)}</span>
    <span class="badge">${step.kept ? "same, kept" : "same"}</span></p>`;
}

function stepNumbers({ before, after }) {
  const isOne = before === after || before === null || after === null;
  return `Step ${isOne ? after ?? before : `${before} → ${after}`}`;
}

function StepDifference({ step, traces, sides, linkTo }) {
  const ids = [step.before, step.after];
  const [before, after] = ids.map((id, side) => answerIn(traces[side], id));
  const there = ids.indexOf(null) === 0 ? 1 : 0;
  const others = step.differences.filter(({ name }) => !TOLD_ABOVE.has(name));
  const links = ids.map((id, side) => id !== null && html`<a key=${side} href=${linkTo(side, id)}
    aria-label=${`Step ${id} in: ${sides[side]}`}>${sides[side]}</a>`);
  return html`<article class="panel stepdiff">
    <header>
      <h3 dir="auto"><span class="soft">${stepNumbers(step)}</span> ${text(step.question)}</h3>
      ${ids.includes(null) && html`<span class="badge running">only in: ${sides[there]}</span>`}
      <span class="opens">${links}</span></header>
    ${ids.includes(null)
      ? html`<p class="written" dir="auto">${[before, after][there] || html`<${Nothing} />`}</p>`
      : html`<${Answers} ...${{ before, after, sides }} />`}
    ${others.length > 0 && html`<${Differences} differences=${others} sides=${sides} />`}
    ${step.evidence.length > 0 && html`<h4>Evidence</h4><${Passages} changes=${step.evidence} />`}
  </article>`;
}

const answerIn = (trace, id) => text(trace.steps.find((step) => step.id === id)?.answer);

function Citations({ changes }) {
  return html`<section class="cited"><h2>Citations of the answers</h2>
    <${Passages} changes=${changes} isCitation=${true} /></section>`;
}

/** What became of passages; the rank of a citation is the number of its mark. */
function Passages({ changes, isCitation = false }) {
  const line = (change) => {
    const [kind, words] = isCitation ? citationChange(change) : evidenceChange(change);
    const ranks = [change.before_rank, change.after_rank].filter((rank) => rank !== null);
    const told = new Set(ranks.map((rank) => (isCitation ? `[${rank}]` : `rank ${rank}`)));
    return html`<li key=${change.passage_id} class=${kind}><span class="sign">${words}</span>
      <span dir="auto">${text(change.title) || text(change.passage_id)}${" "}
        <span class="soft">${text(change.source)} · ${[...told].join(" → ")}</span>
      </span></li>`;
  };
  return html`<ul class="passages-changed">${changes.map(line)}</ul>`;
}

const citationChange = ({ before_rank: before }) =>
  before === null ? ["gained", "newly cited"] : ["lost", "no longer cited"];

/** Gives what became of a passage of a step, as a class and in words. */
function evidenceChange(change) {
  const { before_cited: was, after_cited: is } = change;
  if (change.before_rank === null) return ["gained", is ? "gained, cited" : "gained"];
  if (change.after_rank === null) return ["lost", was ? "lost, was cited" : "lost"];
  if (is !== was) return is ? ["gained", "now cited"] : ["lost", "no longer cited"];
  return ["moved", change.rewritten ? "other text" : "other rank"];
}
