// A question put to a language model: who was asked, what was sent, and what came back.
const SHORT_TEXT = 700;

const PURPOSES = new Map([
  ["plan", "Plan"],
  ["revision", "Plan again"],
  ["next", "Choice of the next step"],
  ["step", "Answer to the step"],
  ["synthesis", "Final answer"],
  ["chat", "Reply"],
]);

const TURNS = new Map([["first", "asked"], ["retry", "retried"], ["failover", "failed over to"]]);
const OUTCOMES = new Map([["ok", "answered"], ["running", "running"]]);

/** The calls of one part; the error that is `told` of that already is not told again. */
function Calls({ calls, run, told = "" }) {
  if (!calls.length) return null;
  return html`<section class="part">
    <${PartHead} title="Model calls" aside=${amount(calls.length, "call")} />
    ${calls.map((call, at) => html`<${Call} key=${at} ...${{ call, run, told }} />`)}
  </section>`;
}

const PartHead = ({ title, aside }) =>
  html`<div class="part-head"><h3>${title}</h3><span class="soft">${aside}</span></div>`;

function Call({ call, run, told }) {
  return html`<div class="call">
    <${CallLine} call=${call} run=${run} />
    ${call.error && call.error !== told && html`<${Note} kind="failed">${call.error}<//>`}
    <${Attempts} call=${call} />
    <${Prompt} messages=${call.prompt} />
    <${Output} body=${call.output} />
    ${call.toolCalls.map((wanted, at) => html`<p key=${at} class="mono wanted">asked for
      ${" "}<bdi>${callInWords(wanted)}</bdi> <span class="bad">${said(wanted.error)}</span></p>`)}
  </div>`;
}

const Note = ({ kind = "", children }) =>
  html`<p class=${`notice ${kind}`} dir="auto">${children}</p>`;

function CallLine({ call, run }) {
  const { purpose, backend, model, degraded } = call;
  const name = modelName(backend, model);
  return html`<p class="call-line"><b>${PURPOSES.get(purpose) ?? purpose}</b>
    ${backend && html`<${BackendBadge} ...${{ name, degraded }} calls=${1} />`}
    ${degraded && html`<span class="badge degraded">no language model</span>`}
    <span class="soft">${callTime(call, run)}${tokensOfCall(call)}</span></p>`;
}

function callTime(call, run) {
  if (isUnderWay(call, run)) return `for ${duration(run.now - call.started)}`;
  return isKeptCall(call) ? said(keptInWords(call)) : duration(call.took);
}

function tokensOfCall({ inputTokens, outputTokens, estimated }) {
  if (!inputTokens && !outputTokens) return "";
  const about = estimated ? "about " : "";
  return ` · ${about}${grouped(inputTokens)} → ${grouped(outputTokens)} tokens`;
}

/** `calculator(expression="3*4")`. */
function callInWords(call) {
  const given = call.arguments.map(([name, value]) => `${name}=${value}`);
  return `${call.tool}(${given.join(", ")})`;
}

function Attempts({ call: { attempts, reason } }) {
  if (!attempts.length) {
    return reason && html`<p class="soft why">Chosen: ${said(reason)}</p>`;
  }
  return html`<ol class="attempts" aria-label="Attempts">${attempts.map((attempt, at) =>
    html`<${AttemptLine} key=${at} attempt=${attempt} turn=${attemptTurn(attempts, at)} />`)}</ol>`;
}

function AttemptLine({ attempt, turn }) {
  const { backend, model, outcome, detail, reason } = attempt;
  const status = OUTCOMES.get(outcome) ?? "failed";
  const failure = status === "failed" ? outcome || "failed" : "";
  return html`<li class="attempt"><${StatusMark} status=${status} />
    <div><p><span class="soft">${TURNS.get(turn)}</span> <b>${said(modelName(backend, model))}</b>
      ${" "}<span class="bad">${said(failure)}</span>
      <span class="soft"> · ${attemptTime(attempt)}</span></p>
      ${detail && html`<p dir="auto">${detail}</p>`}
      ${reason && html`<p class="soft" dir="auto">why: ${reason}</p>`}</div>
  </li>`;
}

function attemptTime({ outcome, started, firstToken, took }) {
  const whole = outcome === "running" ? "under way" : duration(took);
  if (firstToken === null) return whole;
  return `${whole} · first token after ${duration(firstToken - started)}`;
}

function Prompt({ messages }) {
  if (!messages.length) return null;
  const length = messages.reduce((sum, message) => sum + message.content.length, 0);
  const size = `${amount(messages.length, "message")}, ${amount(length, "character")}`;
  return html`<details class="fold-text">
    <summary>Prompt <span class="soft">${size}</span></summary>
    ${messages.map(({ role, content }, at) =>
      html`<${LongText} key=${at} title=${role || "message"} body=${content} isOpen />`)}
  </details>`;
}

const Output = ({ body }) =>
  body && html`<${LongText} title="Output" body=${body} isOpen=${body.length <= SHORT_TEXT} />`;

/** A text exactly as it was, folded or not; it scrolls in itself when it is long. */
function LongText({ title, body, isOpen }) {
  return html`<details class="fold-text" open=${isOpen}>
    <summary>${said(title)} <span class="soft">${amount(body.length, "character")}</span></summary>
    <div class="exact"><${CopyButton} of=${body} what=${title} />
      <pre tabindex="0" role="group" aria-label=${title} dir="auto">${body}</pre></div>
  </details>`;
}

function ToolUses({ uses }) {
  if (!uses.length) return null;
  return html`<section class="part">
    <${PartHead} title="Tools" aside=${amount(uses.length, "call")} />
    ${uses.map((use, at) => html`<div key=${at} class="call">
      <p class="call-line"><${StatusMark} status=${use.error ? "failed" : "answered"} />
        <code>${said(callInWords(use))}</code>
        <span class="soft">${use.fromJournal ? "from the journal" : duration(use.took)}</span></p>
      ${use.error && html`<${Note} kind="failed">${use.error}<//>`}
      <${Output} body=${use.output} />
    </div>`)}
  </section>`;
}
