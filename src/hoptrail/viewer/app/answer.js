// The answer of a run: its claims, and what they cite.

/** What lights up its kin while it is pointed at or focused. */
const pointing = (view, focus) => ({
  onMouseEnter: () => view.point(focus),
  onMouseLeave: () => view.point(null),
  onfocusin: () => view.point(focus),
  onfocusout: () => view.point(null),
});

const litClass = (isLit) => (isLit ? " lit" : "");

function Answer({ run, view, written }) {
  const { short, long } = useMemo(() => shortAndLong(run), [run.answer, run.shortAnswer]);
  const lines = useMemo(() => claimsOf(`${short}\n${long}`, run.citations.length),
    [short, long, run.citations.length]);
  if (!run.answer) return html`<${Unanswered} run=${run} written=${written} />`;
  return html`<section class=${`answer ${run.abstained ? "abstained" : ""}`} aria-label="Answer">
    ${run.abstained && html`<h2 class="label">What is missing</h2>`}
    ${lines.map((line, at) => html`<p class=${short && at === 0 ? "short" : ""} dir="auto">
      ${line.map((sentence) => html`<${Sentence} sentence=${sentence} run=${run} view=${view} />`)}
    </p>`)}
  </section>
  <${Sources} run=${run} view=${view} />`;
}

function Unanswered({ run, written }) {
  if (!run.running) return null;
  return html`<section class="answer" aria-label="Answer" aria-busy="true">
    ${written
      ? html`<p class="writing" dir="auto">${text(written)}<span class="caret" /></p>`
      : html`<p class="soft">
        ${run.steps.length ? "The steps are being answered." : "The question is being planned."}
        </p>`}
  </section>`;
}

function Sentence({ sentence, run, view }) {
  const pieces = sentence.pieces.map((piece) => {
    if (!piece.mark) return piece.text;
    const mark = html`<${CitationMark} number=${piece.mark} run=${run} view=${view} />`;
    return piece.end ? html`<span class="unbroken">${mark}${piece.end}</span>` : mark;
  });
  if (sentence.claim === null) return pieces;
  const isLit = view.lit.claims.has(sentence.claim);
  return html`<span class=${`claim${litClass(isLit)}`}
    onMouseEnter=${() => view.point({ claim: sentence.claim })}
    onMouseLeave=${() => view.point(null)}>${pieces}</span>`;
}

function CitationMark({ number, run, view }) {
  const { title, source } = run.citations[number - 1];
  return html`<button type="button" class=${`cite${litClass(view.lit.citations.has(number))}`}
    aria-label=${`[${number}] ${title || source}`} onClick=${() => view.openCitation(number)}
    ...${pointing(view, { citation: number })}>[${number}]</button>`;
}

const SOURCES_AT_FIRST = 4;

function Sources({ run, view }) {
  const [areAll, setAll] = useState(false);
  const { citations } = run;
  if (!citations.length) return null;
  const isCut = citations.length > SOURCES_AT_FIRST + 1 && !areAll;
  const shown = isCut ? citations.slice(0, SOURCES_AT_FIRST) : citations;
  return html`<div class="sources"><ol aria-label="Sources">
      ${shown.map((citation, at) =>
        html`<${Source} citation=${citation} number=${at + 1} run=${run} view=${view} />`)}
    </ol>
    ${isCut && html`<button type="button" class="plain sources-more" onClick=${() => setAll(true)}>
      ${grouped(citations.length - SOURCES_AT_FIRST)} more sources</button>`}
  </div>`;
}

function Source({ citation, number, run, view }) {
  const step = run.byId.get(citation.step);
  return html`<li class=${`source${litClass(view.lit.citations.has(number))}`}
    ...${pointing(view, { citation: number })}>
    <button type="button" class="source-open" onClick=${() => view.openCitation(number)}>
      <span class="source-number">[${number}]</span>
      <span class="source-text"><b>${said(citation.title || citation.source)}</b>
        ${citation.quote && html` <span class="soft">“${said(citation.quote)}”</span>`}</span>
      ${step && html`<span class="source-step soft">step ${step.id}</span>`}
    </button>
    <${Place} source=${citation.source} />
  </li>`;
}

/** Where a passage is from: a link only if it is an address of the web. */
function Place({ source }) {
  const address = safeAddress(source);
  if (!address) return html`<span class="place soft">${said(source)}</span>`;
  return html`<a class="place" href=${address} rel="noreferrer noopener" target="_blank">
    ${said(source)}</a>`;
}
