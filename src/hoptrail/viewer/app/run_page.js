// A run of the server, followed while it goes on.

/** Gives {trace, answerSoFar, state, problem} of a run, as it goes on. */
function useRun(server, runId) {
  const [run, setRun] = useState({ trace: null, answerSoFar: "", state: "", problem: null });
  useEffect(() => {
    const hear = (news) => setRun((before) => ({ ...before, ...news }));
    const follower = new Follower(server, runId, {
      onTrace: (trace) => hear({ trace }),
      onText: (answerSoFar) => hear({ answerSoFar }),
      onState: (state) => hear({ state }),
      onProblem: (problem) => hear({ problem, state: "" }),
    });
    follower.start();
    return () => follower.stop();
  }, [server, runId]);
  return run;
}

function RunPage({ server, runId, step, models }) {
  const { trace, answerSoFar, state, problem } = useRun(server, runId);
  const [changing, setChanging] = useState(undefined); // undefined: nothing, null: the whole run
  const { actions, refused, onClick } = useActions(server, trace, runId, setChanging);
  const unreadable = trace === null ? "" : whyUnreadable(trace);
  useTitle(trace ? text(trace.question) : runId);
  useArrival(trace !== null || problem !== null, step !== null);
  const rerun = async (change) =>
    goTo(runAddress(await server.begin(`runs/${runId}/rerun`, change)));
  return html`<div class="runpage" onClick=${onClick}>
    <${Connection} state=${state} />
    ${refused && html`<${ProblemNote} problem=${refused} />`}
    ${state === "elsewhere" && html`<p class="notice">Another process works on this run.</p>`}
    ${problem && trace && html`<${ProblemNote} problem=${problem} />`}
    ${trace === null && html`<${NoTrace} runId=${runId} problem=${problem} />`}
    ${unreadable && html`<${Message} title="This trace cannot be shown">${unreadable}<//>`}
    ${trace?.parent_run_id && html`<${ForkNote} trace=${trace} />`}
    ${trace && !unreadable && html`<${RunView} ...${{ trace, actions, answerSoFar, step }} />`}
    ${changing !== undefined && html`<${ChangeForm} ...${{ trace, models }} stepId=${changing}
      onRerun=${rerun} onClose=${() => setChanging(undefined)} />`}
  </div>`;
}

function NoTrace({ runId, problem }) {
  if (!problem) return html`<main><h1 class="soft">Loading…</h1></main>`;
  return html`<main class="message"><h1>Run ${runId}</h1><${ProblemNote} problem=${problem} />
    <p><a href="#/">All runs</a></p></main>`;
}

function ForkNote({ trace: { run_id: id, parent_run_id: parent, change } }) {
  return html`<aside class="notice forknote" aria-label="Where this run comes from">
    Changed from <a href=${runAddress(parent)}>${text(parent)}</a>: ${changeInWords(change)}.${" "}
    <a href=${compareAddress(parent, id)}>Compare with the original</a></aside>`;
}

/** Gives what can be done with a run, what was refused of it, and the listener that saves it. */
function useActions(server, trace, runId, change) {
  const [refused, setRefused] = useState(null);
  const isChat = trace?.graph === "chat"; // a turn of a conversation has no fork
  const attempt = (work) => work().then(() => setRefused(null), setRefused);
  const page = `runs/${runId}/trace.html`;
  const actions = useMemo(() => ({
    change: isChat ? null : change,
    cancel: () => attempt(() => server.post(`runs/${runId}/cancel`)),
    exportAddress: page,
  }), [server, runId, isChat]);
  const onClick = (event) => {
    if (!server.hasToken || !event.target.closest?.("a[download]")) return;
    event.preventDefault(); // a link would not send the token
    attempt(() => saveFile(server, page, `${runId}.html`));
  };
  return { actions, refused, onClick };
}

async function saveFile(server, path, name) {
  const response = await server.send(path, { headers: { Accept: "text/html" } });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
