// What the page shows: a run from a file, two compared from a file, or a server's runs.
const NEWEST_TRACE = 2;

/** Says why a document cannot be shown as a trace, or nothing. */
function whyUnreadable(trace) {
  if (trace === null || typeof trace !== "object" || !Array.isArray(trace.steps))
    return "This is no Hoptrail trace.";
  const version = trace.trace_version;
  if (!Number.isInteger(version)) return "This trace does not say which version it has.";
  if (version <= NEWEST_TRACE) return "";
  return `This trace has version ${version}; this page reads up to ${NEWEST_TRACE}. A newer Hoptrail
    shows it: pip install -U hoptrail`;
}

/** Shows a message in place of what cannot be drawn. */
function Guard({ children }) {
  const [error] = htmPreact.useErrorBoundary();
  if (!error) return children;
  return html`<${Message} title="This cannot be shown" kind="failed">${text(error.message)}<//>`;
}

function Message({ title, kind = "", children }) {
  useArrival(true);
  return html`<main class="message"><h1>${title}</h1>
    <p class=${`notice ${kind}`}>${children}</p></main>`;
}

function Shell({ home, links = [], children }) {
  const brand = h(home ? "a" : "span", { class: "brand", href: home }, "Hoptrail");
  const link = ({ address, words, isHere }) => html`<a key=${address} href=${address}
    aria-current=${isHere ? "page" : null}>${words}</a>`;
  return html`<div class="shell">
    <header class="top">
      ${brand}
      ${links.length > 0 && html`<nav aria-label="Pages" class=${links.length > 1 ? "many" : ""}>
        ${links.map(link)}</nav>`}
      <span class="push"></span><${ThemeToggle} />
    </header>
    ${children}
  </div>`;
}

function TraceFile({ trace }) {
  useTitle(text(trace?.question));
  const problem = whyUnreadable(trace);
  return html`<${Shell}>${problem
    ? html`<${Message} title="This trace cannot be shown">${problem}<//>`
    : html`<${Guard}><${RunView} trace=${trace} actions=${null} answerSoFar="" /><//>`}<//>`;
}

const FILE_PAGES = ["", "before", "after"];

function ComparisonFile({ traces, comparison }) {
  const { parts, query } = useRoute();
  const here = Math.max(FILE_PAGES.indexOf(parts[0] ?? ""), 0);
  const problem = traces.map(whyUnreadable).find(Boolean);
  useTitle(here === 0 ? "Two runs compared" : text(traces[here - 1]?.question));
  const linkTo = (side, step) => `#/${FILE_PAGES[side + 1]}${step ? `?step=${step}` : ""}`;
  const links = ["Comparison", "First run", "Second run"].map((words, at) =>
    ({ words, address: `#/${FILE_PAGES[at]}`, isHere: at === here }));
  if (problem) {
    const title = "These traces cannot be shown";
    return html`<${Shell}><${Message} title=${title}>${problem}<//><//>`;
  }
  return html`<${Shell} home="#/" links=${links}>${here === 0
    ? html`<${Arrival} key="both"><${ComparisonView} ...${{ comparison, traces, linkTo }} /><//>`
    : html`<${Arrival} key=${here} keepsPlace=${query.has("step")}>
        <${RunView} trace=${traces[here - 1]} actions=${null} answerSoFar=""
          step=${stepIn(query)} /><//>`}<//>`;
}

function Arrival({ keepsPlace = false, children }) {
  useArrival(true, keepsPlace);
  return html`<${Guard}>${children}<//>`;
}

function App({ told }) {
  if (told?.view === "server") return html`<${ServerPages} />`;
  if (told?.view === "comparison") return html`<${ComparisonFile} ...${told} />`;
  return html`<${TraceFile} trace=${told?.traces?.[0]} />`;
}

function toldData() {
  try {
    return JSON.parse(document.getElementById("hoptrail").textContent);
  } catch {
    return null;
  }
}

applyTheme(rememberedTheme()); // before the first drawing, lest the other theme be seen
render(html`<${App} told=${toldData()} />`, document.getElementById("app"));
