// What the page shows: one trace, two compared, or a server's runs.
function App({ told }) {
  if (told.view === "trace") return html`<div class="shell"><${RunView} trace=${told.traces[0]} actions=${null} answerSoFar="" /></div>`;
  return html`<div class="shell"><p>Not written yet.</p></div>`;
}
render(html`<${App} told=${JSON.parse(document.getElementById("hoptrail").textContent)} />`, document.getElementById("app"));
