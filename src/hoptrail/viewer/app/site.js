// The pages that a server gives: its runs, one of them, two of them; and what they ask for.

function ServerPages() {
  const server = useMemo(() => new OwnServer(location.href.split("#", 1)[0]), []);
  const [wanted, setWanted] = useState(null);
  server.onRefused = () => setWanted(server.wanted);
  const models = useModels(server);
  const { path, parts, query } = useRoute();
  const links = [{ address: "#/", words: "Runs", isHere: parts.length === 0 }];
  return html`<${Shell} home="#/" links=${links}>
    <${Guard} key=${path}><${ServerPage} ...${{ server, parts, query, models }} /><//>
    ${wanted && html`<${TokenForm} wanted=${wanted} />`}<//>`;
}

function ServerPage({ server, parts, query, models }) {
  const [page, ...ids] = parts;
  const names = ids.every((id) => RUN_ID.test(id)) ? ids.length : -1;
  if (page === undefined)
    return html`<${RunsPage} ...${{ server, query }} backends=${backendsIn(models)} />`;
  if (page === "runs" && names === 1)
    return html`<${RunPage} ...${{ server, models }} runId=${ids[0]} step=${stepIn(query)} />`;
  if (page === "compare" && names === 2)
    return html`<${ComparePage} server=${server} ids=${ids} />`;
  return html`<${Message} title="There is no such page"><a href="#/">All runs</a><//>`;
}

const backendsIn = (models) => [...new Set(models.map((name) => name.split(":", 1)[0]))];

/** Gives the models that the server's backends have, as `BACKEND:MODEL`. */
function useModels(server) {
  const [models, setModels] = useState([]);
  useEffect(() => {
    server.json("readyz", { also: [503] }).then(
      ({ backends = [] }) => setModels([...new Set(backends.flatMap(modelsOf))]),
      () => {}, // there are only fewer suggestions
    );
  }, [server]);
  return models;
}

const modelsOf = ({ backend, model, models = [] }) =>
  [model, ...models].filter(Boolean).map((name) => `${text(backend)}:${text(name)}`);

function ComparePage({ server, ids }) {
  const [{ comparison, traces, problem }, setFound] = useState({});
  useEffect(() => {
    const leaving = new AbortController();
    const { signal } = leaving;
    comparisonOf(server, ids, signal).then(setFound, (error) => {
      if (!signal.aborted) setFound({ problem: error });
    });
    return () => leaving.abort();
  }, [server, ...ids]);
  useTitle("Two runs compared");
  useArrival(Boolean(comparison || problem));
  if (problem)
    return html`<main class="message"><h1>Two runs compared</h1>
      <${ProblemNote} problem=${problem} /><p><a href="#/">All runs</a></p></main>`;
  if (!comparison) return html`<main><h1 class="soft">Loading…</h1></main>`;
  const linkTo = (side, step) => runAddress(ids[side], step);
  return html`<${ComparisonView} ...${{ comparison, traces, linkTo }} />`;
}

async function comparisonOf(server, [before, after], signal) {
  const paths = [`${before}/diff/${after}`, `${before}/trace.json`, `${after}/trace.json`];
  const asked = paths.map((path) => server.json(`runs/${path}`, { signal }));
  const [comparison, ...traces] = await Promise.all(asked);
  return { comparison, traces };
}

function TokenForm({ wanted }) {
  const [token, setToken] = useState("");
  const give = (event) => {
    event.preventDefault();
    if (token.trim()) wanted.give(token.trim());
  };
  return html`<${Dialog} title="This server asks for a token" onClose=${wanted.leave}>
    <form class="change" onSubmit=${give}>
      <p>It is the HOPTRAIL_API_TOKEN that the server was started with. This tab keeps it until
        it is closed.</p>
      <label class="filter"><span>Token</span>
        <input type="password" autocomplete="off" pattern="\\s*[\\x21-\\x7e]+\\s*"
          title="Letters, digits and signs of ASCII" value=${token}
          onInput=${(event) => setToken(event.target.value)} /></label>
      ${wanted.isWrong && html`<${ProblemNote} problem=${{ message: wanted.problem.message }} />`}
      <div class="buttons"><button type="button" onClick=${wanted.leave}>Cancel</button>
        <button class="primary" disabled=${!token.trim()}>Go on</button></div>
    </form><//>`;
}
