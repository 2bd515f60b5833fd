// What a run took and came from: its time against its longest chain, its calls, its backends.
const CHAIN_LETTERS = 50;

function Facts({ run, chain }) {
  const stopped = run.stopReason && !run.running && stopReason(run.stopReason);
  return html`<section class="facts" aria-label="The run in figures">
    <${TimeFigure} run=${run} chain=${chain} />
    <div>
      <dl class="fact-list">
        <${Fact} name="Answered by"><${Backends} run=${run} /><//>
        <${Fact} name="Model calls">${callsInWords(run)}<//>
        <${Fact} name="Tokens">${tokensInWords(run)}<//>
        <${Fact} name="Stopped">${stopped}<//>
        <${Fact} name="Run"><span class="mono">${said(run.id)}</span>${" "}
          <${CopyButton} of=${run.id} what="the run id" /><//>
      </dl>
      <${FurtherFacts} run=${run} />
    </div>
  </section>`;
}

function FurtherFacts({ run }) {
  return html`<details class="further"><summary>More about this run</summary>
    <dl class="fact-list">
      <${Fact} name="Started">${startInWords(run.startedAt)}<//>
      <${Fact} name="Graph">${said(run.graph)}<//>
      <${Fact} name="Thread">${run.thread && said(run.thread)}<//>
      <${Fact} name="Documents">${run.documents ? said(run.documents) : "none"}<//>
      <${Fact} name="Backends">${run.policy && said(run.policy)}<//>
      <${Fact} name="Budget">${run.budget.map((limit) => limitInWords(limit, run))}<//>
      <${Fact} name="Versions">${run.versions.map(([name, version]) =>
        html`<span class="version">${said(name)} ${said(version)}</span>${" "}`)}<//>
    </dl>
  </details>`;
}

/** One term and what is said of it; nothing where there is nothing to say. */
function Fact({ name, children }) {
  const says = (child) => child !== "" && child !== false && child != null;
  const isSaid = [children].flat(2).some(says);
  return isSaid && html`<div class="fact"><dt>${name}</dt><dd>${children}</dd></div>`;
}

function TimeFigure({ run, chain }) {
  const wall = run.running ? run.now : run.usage.wall || run.now;
  if (!wall) return null;
  const width = (ms) => ({ width: `${Math.min(100, (100 * ms) / wall)}%` });
  const hasRoom = ({ label, ms }) => (CHAIN_LETTERS * ms) / wall > label.length + 0.5;
  const isChain = chain.links.length > 1;
  return html`<figure class="time">
    <div class="time-bars" aria-hidden="true">
      <div class="time-bar wall" style=${width(wall)} />
      ${isChain && html`<div class="time-bar chain">${chain.links.map((link) =>
        html`<span style=${width(link.ms)}>${hasRoom(link) && link.label}</span>`)}</div>`}
    </div>
    <figcaption><b>${duration(wall)}</b>${run.running && " so far"}
      ${isChain && chainInWords(chain, wall)}</figcaption>
  </figure>`;
}

function chainInWords(chain, wall) {
  const isAll = chain.ms > wall || duration(chain.ms) === duration(wall);
  const share = isAll ? "nearly all of it" : `of which ${duration(chain.ms)} is`;
  return `, ${share} the longest chain: ${chainSentence(chain.links)}`;
}

function Backends({ run }) {
  const found = answeredBy(callsOf(run));
  const nobody = run.running ? "nobody yet" : "nobody";
  if (!found.length) return html`<span class="soft">${nobody}</span>`;
  return found.map((each) => html`<${BackendBadge} key=${each.name} ...${each} />${" "}`);
}

function BackendBadge({ name, degraded, calls }) {
  return html`<span class=${`badge backend${degraded ? " degraded" : ""}`}><bdi>${name}</bdi>
    ${calls > 1 && html`<span>× ${calls}</span>`}</span>`;
}

function callsInWords(run) {
  const calls = callsOf(run);
  const [kept, made] = [calls.filter(isKeptCall), calls.filter((call) => !isKeptCall(call))];
  const read = made.filter((call) => call.degraded).length;
  const paid = run.running ? made.length - read : run.usage.calls;
  const from = new Set(kept.map((call) => (call.fromRun ? `run ${call.fromRun}` : "the journal")));
  return [
    grouped(paid),
    read > 0 && html`<span class="soft"> · ${grouped(read)} by the built-in reader</span>`,
    kept.length > 0 && html`<span class="soft"> · ${grouped(kept.length)} kept from
      ${" "}${said([...from].join(", "))}</span>`,
  ];
}

function tokensInWords(run) {
  const calls = callsOf(run);
  const sum = (field) => calls.reduce((total, call) => total + call[field], 0);
  const soFar = { inputTokens: sum("inputTokens"), outputTokens: sum("outputTokens") };
  const { inputTokens, outputTokens } = run.running ? soFar : run.usage;
  const about = calls.some((call) => call.estimated) ? "about " : "";
  return `${about}${grouped(inputTokens)} in · ${grouped(outputTokens)} out`;
}

function startInWords(startedAt) {
  const moment = new Date(startedAt);
  if (!startedAt || Number.isNaN(moment.getTime())) return startedAt && said(startedAt);
  const words = moment.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
  return html`<time datetime=${moment.toISOString()}>${words}</time>`;
}

function limitInWords([name, limit], run) {
  const { usage, steps } = run;
  const spent = new Map([
    ["max_steps", ["steps", steps.length]],
    ["max_llm_calls", ["calls", usage.calls]],
    ["max_tokens", ["tokens", usage.inputTokens + usage.outputTokens]],
    ["deadline", ["seconds", Math.round((usage.wall || run.now) / 100) / 10]],
  ]);
  const [noun, used] = spent.get(name) ?? [name, null];
  if (limit === null) return html`<span class="limit">${said(noun)}: no limit</span> `;
  const share = used === null ? grouped(limit) : `${grouped(used)} of ${grouped(limit)}`;
  return html`<span class="limit">${share} ${said(noun)}</span> `;
}
