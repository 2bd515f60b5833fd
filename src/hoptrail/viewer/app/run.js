// One run, from its trace document: what was asked, what came of it, and how.
const TICK_OF_NOW = 500;
const LONG_QUESTION = 110;

/**
 * @param trace    the trace document; a new object each time it has changed
 * @param actions  what can be done with the run, or null in a file:
 *                 {change(stepId | null), cancel(), exportAddress, onExport(event)}
 * @param answerSoFar  text of an answer that is being written, or ""
 * @param step     the id of the step that is to be looked at, or null
 */
function RunView({ trace, actions, answerSoFar, step = null }) {
  const told = useMemo(() => readRun(trace), [trace]);
  const elapsed = useElapsed(told, actions !== null);
  const run = useMemo(() => runAt(told, elapsed), [told, elapsed]);
  const chain = useMemo(() => longestChain(run), [run]);
  const [view, tip] = useView(run, actions, step);
  const help = useRef(null);
  useKeys(view, help);
  return html`<main class="run">
    <${RunTop} ...${{ run, view, chain }} written=${answerSoFar} />
    <div class="columns">
      <div class="overview">
        <${PlanGraph} ...${{ run, view, chain }} />
        <${Waterfall} ...${{ run, view, chain }} />
        <p class="soft small keys-hint">Press <kbd>?</kbd> for keys:
          ${" "}<kbd>j</kbd> and <kbd>k</kbd> go from part to part.</p>
      </div>
      <${Card} ...${{ run, view, chain }} />
    </div>
    <${Tip} tip=${tip} />
    <${Help} of=${help} />
  </main>`;
}

/** The milliseconds since a running run's start, on a page that follows it; else null. */
function useElapsed(run, follows) {
  const since = () => (run.running && follows ? Date.now() - Date.parse(run.startedAt) : null);
  const [elapsed, setElapsed] = useState(since);
  useEffect(() => {
    setElapsed(since());
    if (!run.running || !follows) return undefined;
    const timer = setInterval(() => setElapsed(since()), TICK_OF_NOW);
    return () => clearInterval(timer);
  }, [run.running, run.startedAt, follows]);
  return elapsed;
}

function RunTop({ run, view, chain, written }) {
  const { question, status, degraded, graph } = run;
  const isUsual = graph === "" || graph === "multi-hop";
  return html`<header class="run-head">
    <div class="run-story">
      <div class="run-line" role="status"><${StatusBadge} status=${status} />
        ${degraded && html`<span class="badge degraded">degraded</span>`}
        ${!isUsual && html`<span class="badge">${said(graph)}</span>`}</div>
      <h1 dir="auto" class=${question.length > LONG_QUESTION ? "long" : ""}>
        ${question || "(no question)"}</h1>
      ${view.actions === null && html`<${Parent} run=${run} />`}
      <${Ending} run=${run} />
      <${Answer} ...${{ run, view, written }} />
      <${Notices} run=${run} />
      <${Actions} run=${run} actions=${view.actions} />
    </div>
    <${Facts} run=${run} chain=${chain} />
  </header>`;
}

/** In a file: which run this one was forked from, and what is otherwise. */
function Parent({ run }) {
  if (!run.parent && !run.change) return null;
  const name = run.parent || "another run";
  return html`<p class="parent soft">Changed from <span class="mono">${said(name)}</span>:
    ${" "}${said(changeInWords(run.change))}</p>`;
}

/** What ended a run before its answer, and how to go on. */
function Ending({ run: { id, status, error } }) {
  const isFailed = status === "failed";
  if (!isFailed && status !== "interrupted") return null;
  const what = isFailed ? "The run failed." : "The run was stopped before its end.";
  const resume = `hoptrail ask --resume ${id}`;
  return html`<div class=${`notice ending ${isFailed ? "failed" : "warning"}`}
    role=${isFailed ? "alert" : null}>
    <p><b>${what}</b> ${said(error)}</p>
    <p class="soft">What is known so far is below. To go on where it stopped, paying for nothing
      ${" "}twice:</p>
    <p><code>${said(resume)}</code> <${CopyButton} of=${resume} what="the command" /></p>
  </div>`;
}

function Notices({ run }) {
  const reason = callsOf(run).find((call) => call.degraded)?.reason ?? "";
  const why = reason && ` The built-in reader answered where no model could (${reason}).`;
  // The reason stands among the warnings too, in these words.
  const isNew = (warning) => reason === "" || warning !== `no language model answered: ${reason}`;
  return html`${run.degraded && html`<${Note} kind="warning"><b>Degraded:</b> not all of this is a
      ${" "}language model's.${why}<//>`}
    ${run.warnings.filter(isNew).map((warning, at) =>
      html`<${Note} key=${at} kind="warning">${warning}<//>`)}`;
}

function Actions({ run, actions }) {
  if (!actions) return null;
  const { change, cancel, exportAddress, onExport } = actions;
  return html`<div class="actions">
    ${run.running && cancel && html`<button type="button" onClick=${() => cancel()}>Stop</button>`}
    ${!run.running && change && html`<button type="button" onClick=${() => change(null)}>
      Change and rerun</button>`}
    ${exportAddress && html`<a class="button" href=${exportAddress} onClick=${onExport} download>
      Save as HTML</a>`}
  </div>`;
}
