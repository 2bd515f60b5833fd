// The runs of a server: ask, look for, pick two to compare.
const PAGE = 50;
const MOST_AT_ONCE = 500;
const SOON_MS = 2000;
const LATER_MS = 8000;
const TYPING_MS = 250;
const RUN_STATUSES = ["answered", "abstained", "failed", "interrupted", "running"];
const ORDERS = ["newest", "oldest", "slowest", "fastest", "question"];
const FILTERS = ["question", "status", "backend", "degraded", "sort"];

/** Gives the runs of the filters, one more than are shown; new ones come by themselves. */
function useRuns(server, filters, shown) {
  const [found, setFound] = useState({ rows: null, state: "live", problem: null });
  const wish = new URLSearchParams(filters).toString();
  useEffect(() => {
    const leaving = new AbortController();
    const { signal } = leaving;
    const hear = (news) => signal.aborted || setFound((before) => ({ ...before, ...news }));
    watchRuns(server, { wish, shown, signal, hear });
    return () => leaving.abort();
  }, [server, wish, shown]);
  return found;
}

async function watchRuns(server, { wish, shown, signal, hear }) {
  for (let misses = 0; !signal.aborted; ) {
    try {
      await visible(signal);
      const rows = await runsOf(server, wish, shown + 1, signal);
      hear({ rows, state: "live", problem: null });
      misses = 0;
      await pause(rows.some(({ status }) => status === "running") ? SOON_MS : LATER_MS, signal);
    } catch (problem) {
      if (signal.aborted) return;
      if (!(problem instanceof Problem && problem.passes)) return void hear({ problem });
      hear({ state: "lost" });
      await pause(waitAfter(misses++, problem.retryAfter), signal).catch(() => {});
    }
  }
}

async function runsOf(server, wish, most, signal) {
  const rows = [];
  while (rows.length < most) {
    const limit = Math.min(most - rows.length, MOST_AT_ONCE);
    const query = new URLSearchParams(wish);
    query.set("limit", limit);
    query.set("offset", rows.length);
    const { runs } = await server.json(`runs?${query}`, { signal });
    rows.push(...runs);
    if (runs.length < limit) break;
  }
  return rows;
}

/** Keeps of a hash's parameters those that the list knows. */
function filtersOf(query) {
  const held = FILTERS.map((name) => [name, query.get(name) ?? ""]);
  return Object.fromEntries(held.filter(([, value]) => value !== ""));
}

function RunsPage({ server, query, backends }) {
  const filters = filtersOf(query);
  const [shown, setShown] = useState(PAGE);
  const [picked, setPicked] = useState([]);
  const { rows, state, problem } = useRuns(server, filters, shown);
  useArrival(rows !== null || problem !== null);
  const filter = (name, value) => {
    // As they are by now: what is typed is told a little later.
    const next = new URLSearchParams(filtersOf(routeOf(location.hash).query));
    if (value) next.set(name, value);
    else next.delete(name);
    setShown(PAGE);
    setRoute(next.size > 0 ? `#/?${next}` : "#/");
  };
  const isFiltered = Object.keys(filters).length > 0;
  const pick = (row) => setPicked((before) => {
    if (isIn(before, row)) return before.filter((each) => each.run_id !== row.run_id);
    return before.length < 2 ? [...before, row] : before;
  });
  return html`<main class="runs">
    <h1>Runs</h1>
    <${AskBox} server=${server} />
    ${(rows?.length > 0 || isFiltered) && html`<${Filters} ...${{ filters, backends }}
      rows=${rows ?? []} onFilter=${filter} />`}
    <${Connection} state=${state} />
    ${problem && html`<${ProblemNote} problem=${problem} />`}
    ${rows === null && !problem && html`<p class="soft">Loading…</p>`}
    ${rows?.length === 0 && html`<${NoRuns} isFiltered=${isFiltered} />`}
    ${rows?.length > 0 && html`<${RunTable} rows=${rows.slice(0, shown)} picked=${picked}
      onPick=${pick} />`}
    ${rows?.length > shown && html`<p class="more">
      <button onClick=${() => setShown(shown + PAGE)}>Show more</button></p>`}
    <${Picked} picked=${picked} onClear=${() => setPicked([])} />
  </main>`;
}

const isIn = (picked, { run_id: id }) => picked.some((each) => each.run_id === id);

function AskBox({ server }) {
  const [question, setQuestion] = useState("");
  const [graph, setGraph] = useState("multi-hop");
  const ask = async (wish) => goTo(runAddress(await server.begin("reasoning/multi-hop", wish)));
  const { busy, problem, submit } = useSending(ask);
  const wish = question.trim() ? { question, graph } : null;
  return html`<form class="ask panel" onSubmit=${(event) => submit(event, wish)}>
    <input aria-label="Question" placeholder="Ask a question of your documents" value=${question}
      maxlength="10000" onInput=${(event) => setQuestion(event.target.value)} />
    <select aria-label="How the steps are found" value=${graph}
      onChange=${(event) => setGraph(event.target.value)}>
      <option value="multi-hop">plan all steps first</option>
      <option value="iterative">one step at a time</option>
    </select>
    <button class="primary" disabled=${busy || !wish}>${busy ? "Starting…" : "Ask"}</button>
    ${problem && html`<${ProblemNote} problem=${problem} />`}
  </form>`;
}

function Filters({ filters, backends, rows, onFilter }) {
  const served = rows.flatMap((row) => namesIn(row.backends));
  const known = new Set([...backends, ...served, filters.backend].filter(Boolean));
  const choice = (name, label, options) => html`<label class="filter"><span>${label}</span>
    <select value=${filters[name] ?? ""} onChange=${(event) => onFilter(name, event.target.value)}>
      ${options.map(([value, word]) => html`<option key=${value} value=${value}>${word}</option>`)}
    </select></label>`;
  const plain = (values) => values.map((value) => [value, value]);
  return html`<form class="filters" role="search" aria-label="Filter runs"
    onSubmit=${(event) => event.preventDefault()}>
    <${QuestionFilter} value=${filters.question ?? ""} onFilter=${onFilter} />
    ${choice("status", "Status", [["", "any"], ...plain(RUN_STATUSES)])}
    ${choice("backend", "Backend", [["", "any"], ...plain([...known].sort())])}
    ${choice("degraded", "Degraded", [["", "any"], ["true", "yes"], ["false", "no"]])}
    ${choice("sort", "Sort", [["", "newest"], ...plain(ORDERS.slice(1))])}
  </form>`;
}

const namesIn = (backends) => text(backends).split(",").filter(Boolean);

/** What is typed is looked for when the typing rests. */
function QuestionFilter({ value, onFilter }) {
  const [typed, setTyped] = useState(value);
  useEffect(() => setTyped(value), [value]);
  useEffect(() => {
    if (typed === value) return undefined;
    const timer = setTimeout(() => onFilter("question", typed), TYPING_MS);
    return () => clearTimeout(timer);
  }, [typed]);
  return html`<label class="filter wide"><span>Find</span>
    <input type="search" placeholder="words of the question" value=${typed}
      onInput=${(event) => setTyped(event.target.value)} /></label>`;
}

function NoRuns({ isFiltered }) {
  if (isFiltered)
    return html`<p class="empty">No run is like that. <a href="#/">Show all runs</a></p>`;
  return html`<div class="empty panel"><h2>No run yet</h2>
    <p>Ask a question above, or in a terminal with the same HOPTRAIL_HOME:</p>
    <pre>hoptrail ask "In which city was the author of The Trial born?" --docs notes/</pre></div>`;
}

/** Says that the server does not answer, while it does not. */
function Connection({ state }) {
  return html`<div role="status">${state === "lost" &&
    html`<p class="notice warning">The connection to the server is lost; trying again.</p>`}</div>`;
}
