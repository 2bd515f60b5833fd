// The keys of a run's page.
const KEYS = [
  [["j", "k"], "next and previous part of the run"],
  [["↓", "↑"], "the same, from a node of the plan or a row of times"],
  [["Enter"], "go to what is looked at"],
  [["Tab"], "from one thing to the next"],
  [["?"], "these keys"],
  [["Esc"], "close"],
];
const MOVES = new Map([["j", 1], ["k", -1]]);
const ARROWS = new Map([["ArrowDown", 1], ["ArrowUp", -1]]);

/** Listens to the keys; none is taken from a field that is written in, or from a dialog. */
function useKeys(view, help) {
  const latest = useRef(null);
  latest.current = (event) => {
    const isOurs = !event.defaultPrevented && !event.ctrlKey && !event.metaKey && !event.altKey;
    if (!isOurs || event.target.closest?.("input, textarea, select, dialog")) return;
    const overview = event.target.closest?.(".fall, .node") ?? null;
    const by = MOVES.get(event.key) ?? (overview && ARROWS.get(event.key));
    if (by) moveBy(by, view, overview, event);
    else if (event.key === "Enter" && (overview || event.target === document.body)) focusCard();
    else if (event.key === "?") help.current?.showModal();
    else if (event.key === "Escape") view.tip(null);
  };
  useEffect(() => {
    const listen = (event) => latest.current(event);
    addEventListener("keydown", listen);
    return () => removeEventListener("keydown", listen);
  }, []);
}

/** Goes from part to part; within the plan or the times, the focus goes along. */
function moveBy(by, view, overview, event) {
  view.move(by);
  if (!overview) return;
  event.preventDefault();
  const [room, wanted] = overview.matches(".fall")
    ? [overview.closest("ol"), ".fall.selected button"]
    : [overview.closest(".plan-room"), ".node.selected"];
  setTimeout(() => room?.querySelector(wanted)?.focus());
}

function focusCard() {
  // Enter on a row first looks at its part; the card is drawn anew before it is gone to.
  setTimeout(() => document.getElementById("card-title")?.focus());
}

function Help({ of }) {
  const signs = (keys) => keys.map((key) => html`<kbd key=${key}>${key}</kbd>${" "}`);
  return html`<dialog ref=${of} class="help" aria-labelledby="help-title">
    <h2 id="help-title">Keys</h2>
    <dl>${KEYS.map(([keys, what]) =>
      html`<div key=${what}><dt>${signs(keys)}</dt><dd>${what}</dd></div>`)}</dl>
    <button type="button" onClick=${() => of.current.close()}>Close</button>
  </dialog>`;
}
