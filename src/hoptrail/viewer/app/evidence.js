// The passages a step was given: how each retriever ranked them, and which the answer cites.
const SCORES = [
  ["bm25", "BM25", "how well the words match"],
  ["dense", "Dense", "how near the vectors are"],
  ["graph", "Graph", "how near it is along links between passages"],
  ["fused", "Fused", "the ranks of both searches taken together"],
];

function scoreText(score) {
  if (score === null) return "";
  const size = Math.abs(score);
  return score.toFixed(size >= 10 ? 1 : size >= 1 ? 2 : 3);
}

/** The score that the passages were ranked by, where all agree on one. */
function rankedBy(evidence) {
  const names = SCORES.map(([name]) => name);
  return names.findLast((name) =>
    evidence.every((item) => item.score !== null && item.scores[name] === item.score)) ?? "";
}

function EvidenceTable({ step, run, view }) {
  const [onlyCited, setOnlyCited] = useState(false);
  const { evidence, retrievalMode } = step;
  if (!evidence.length) return null;
  const cited = evidence.filter((item) => item.cited);
  const columns = SCORES.filter(([name]) => evidence.some((item) => item.scores[name] !== null));
  const how = retrievalMode && ` · ${retrievalMode} search`;
  return html`<section class="part" aria-labelledby="evidence-title">
    <div class="part-head"><h3 id="evidence-title">Evidence</h3>
      <span class="soft">${amount(evidence.length, "passage")},
        ${cited.length ? ` ${grouped(cited.length)} cited` : " none cited"}${how}</span>
      ${cited.length > 0 && cited.length < evidence.length && html`<label class="switch">
        <input type="checkbox" checked=${onlyCited} onChange=${() => setOnlyCited(!onlyCited)} />
        only cited</label>`}
    </div>
    <table class="evidence">
      <${EvidenceHead} columns=${columns} ranked=${rankedBy(evidence)} />
      ${(onlyCited ? cited : evidence).map((item) => html`<${Passage}
        key=${`${item.rank} ${item.passage}`} ...${{ item, columns, step, run, view }} />`)}
    </table>
  </section>`;
}

function EvidenceHead({ columns, ranked }) {
  const mark = html`<span title="ranked by this"> ▾</span>`;
  return html`<thead><tr>
    <th scope="col" class="number">#</th><th scope="col">Passage</th>
    ${columns.map(([name, label, what]) => html`<th key=${name} scope="col" class="number score"
      title=${what}>${label}${name === ranked && mark}</th>`)}
    <th scope="col" class="cited-head">Cited</th></tr></thead>`;
}

function Passage({ item, columns, step, run, view }) {
  const { target } = view;
  const isTarget = target !== null && target.key === step.key && target.passage === item.passage;
  const [isOpen, setOpen, row] = useTarget(isTarget, target);
  const isLit = isTarget || (view.lit.passages.has(item.passage) && item.cited);
  return html`<tbody class=${`passage${item.cited ? " cited" : ""}${litClass(isLit)}`} ref=${row}
    ...${pointing(view, { passage: item.passage })}>
    <tr>
      <td class="number rank">${item.rank ?? ""}</td>
      <th scope="row"><button type="button" class="plain fold" aria-expanded=${String(isOpen)}
        onClick=${() => setOpen(!isOpen)}>
        <span class="fold-mark" aria-hidden="true">▸</span><${PassageName} item=${item} />
      </button></th>
      ${columns.map(([name]) => html`<td key=${name} class="number score">
        ${scoreText(item.scores[name])}<${ScoreBar} ...${{ name, item, step }} /></td>`)}
      <td class="cited-mark"><${CitedMark} isCited=${item.cited} /></td>
    </tr>
    ${isOpen && html`<tr class="passage-text"><td colspan=${columns.length + 3}>
      <${PassageText} ...${{ item, step, run }} /></td></tr>`}
  </tbody>`;
}

/** A passage that a citation leads to is opened, and brought into view. */
function useTarget(isTarget, target) {
  const [isOpen, setOpen] = useState(isTarget);
  const row = useRef(null);
  useEffect(() => {
    if (!isTarget) return;
    setOpen(true);
    bringIntoView(row.current);
  }, [isTarget, target]);
  return [isOpen, setOpen, row];
}

function PassageName({ item: { title, source, passage } }) {
  return html`<span><bdi class="fold-title">${title || source || passage || "(no name)"}</bdi>
    ${title && source !== title && html`<span class="passage-source soft">${said(source)}</span>`}
  </span>`;
}

function CitedMark({ isCited }) {
  if (!isCited) return html`<span class="unseen">not cited</span>`;
  return html`<span class="is-cited"><span aria-hidden="true">●</span> cited</span>`;
}

/** How large a score is beside the largest of its kind. */
function ScoreBar({ name, item, step }) {
  const largest = Math.max(...step.evidence.map((each) => each.scores[name] ?? 0));
  const share = largest > 0 ? Math.max(0, (item.scores[name] ?? 0) / largest) : 0;
  return html`<span class="score-bar" style=${{ width: `${100 * share}%` }} />`;
}

function PassageText({ item, step, run }) {
  const citations = item.cited ? [...step.citations, ...run.citations] : [];
  const citing = citations.filter((each) => each.passage === item.passage);
  const quotes = citing.map((each) => each.quote);
  const pieces = useMemo(() => quotedPieces(item.text, quotes), [item.text, quotes.join("\n")]);
  const scores = SCORES.filter(([name]) => item.scores[name] !== null);
  return html`<div dir="auto" class="passage-words">${pieces.map((piece) =>
      (piece.quoted ? html`<mark>${piece.text}</mark>` : piece.text))}</div>
    <p class="passage-facts soft"><${Place} source=${item.source} />
      ${scores.map(([name, label]) =>
        html`<span key=${name}>${label} ${scoreText(item.scores[name])}</span>`)}
      <span class="mono">${said(item.passage)}</span>
      <${CopyButton} of=${item.passage} what="the passage's id" /></p>`;
}
