// What somebody wants to be otherwise in a run: the form that asks for it.
const CHANGES = new Map([
  ["answer", "Its answer"],
  ["question", "Its question"],
  ["passages", "Its passages"],
  ["model", "The model"],
]);
const CHANGES_OF_RUN = new Map([
  ["question", "The question"],
  ["passages", "The passages"],
  ["model", "The model"],
]);

/** Gives the ids of the steps whose prompt holds an answer of the steps `ids`, however far. */
function stepsBuiltOn(steps, ids) {
  const found = new Set(ids);
  for (let before = -1; before < found.size; ) {
    before = found.size;
    for (const step of steps) if (needsOf(step).some((need) => found.has(need))) found.add(step.id);
  }
  return [...found].filter((id) => !ids.includes(id)).sort((one, other) => one - other);
}

function needsOf({ depends_on: needs = [], earlier = [] }) {
  const told = earlier.filter(({ reason }) => reason !== "memory"); // has ids of its own
  return [...needs, ...told.map(({ id }) => id)];
}

/**
 * Gives every passage of the run once: {passage, own}; `own` are those the step was given. What
 * a tool returned is no passage of the documents.
 */
function passagesFor(steps, stepId) {
  const found = new Map();
  const made = new Set(steps.flatMap(({ tools = [] }) => tools.map((use) => use.passage_id)));
  const isOwn = (step) => stepId === null || step.id === stepId;
  for (const step of [...steps].sort((one, other) => isOwn(other) - isOwn(one)))
    for (const { passage } of step.evidence ?? [])
      if (!found.has(passage.id) && !made.has(passage.id))
        found.set(passage.id, { passage, own: isOwn(step) });
  return [...found.values()];
}

/** Gives the change as it is sent, or null while nothing is changed. */
function changeOf(kind, { step, question, draft, passages, turned }) {
  const where = step ? { step: step.id } : {};
  if (kind === "passages") {
    const picked = (own) =>
      passages.filter((each) => each.own === own && turned.has(each.passage.id));
    const ids = (own) => picked(own).map(({ passage }) => passage.id);
    return turned.size > 0 ? { ...where, banned: ids(true), pinned: ids(false) } : null;
  }
  const written = (draft.get(kind) ?? "").trim();
  const isNew = written !== "" && written !== draftOf({ question }, step).get(kind).trim();
  return isNew ? { ...where, [kind]: written } : null;
}

const ALL_ANEW = "Another question is planned and answered anew: nothing is kept.";

/** Says in words what is asked again, and what is kept. */
function effectOf(trace, step, kind, turned) {
  if (!step && kind === "question") return ALL_ANEW;
  const ids = trace.steps.map(({ id }) => id);
  const first = askedFirst(trace.steps, step, kind, turned);
  const changed = step ? [step.id] : first;
  if (changed.length === 0) return "Untick what is to be left out.";
  const built = stepsBuiltOn(trace.steps, changed);
  const kept = ids.filter((id) => !changed.includes(id) && !built.includes(id));
  const last = `${built.length > 0 ? `${named(built)} and ` : ""}the final answer`;
  const again = first.length > 0 ? `${named(first)}; where that answers otherwise, also ` : "";
  const chosen = trace.graph === "iterative" ? " The steps after it may become others." : "";
  const stay = kept.length > 0 ? ` and ${named(kept)}` : "";
  return `Asked again: ${again}${last}. Kept: the plan${stay}.${chosen}`;
}

/** Gives the ids of the steps that are asked again whatever the others answer. */
function askedFirst(steps, step, kind, turned) {
  if (step) return kind === "answer" ? [] : [step.id];
  const isGiven = ({ evidence = [] }) => evidence.some(({ passage }) => turned.has(passage.id));
  return steps.filter((each) => kind === "model" || isGiven(each)).map(({ id }) => id);
}

/** `step 4`, `steps 1–3, 7`. */
function named(ids) {
  const spans = [];
  for (const id of ids) {
    const last = spans.at(-1);
    if (last && last[1] === id - 1) last[1] = id;
    else spans.push([id, id]);
  }
  const told = spans.map(([from, to]) => (from === to ? `${from}` : `${from}–${to}`)).join(", ");
  return `step${ids.length === 1 ? "" : "s"} ${told}`;
}

/**
 * A dialog over the page.
 *
 * @param stepId    the step that is to be otherwise, or null: the whole run
 * @param models    names that are suggested, `BACKEND:MODEL`
 * @param onRerun   is given the change as `POST /runs/{id}/rerun` takes it; what it raises is shown
 */
function ChangeForm({ trace, stepId, models, onRerun, onClose }) {
  const step = trace.steps.find(({ id }) => id === stepId) ?? null;
  const passages = useMemo(() => passagesFor(trace.steps, stepId), [trace, stepId]);
  const kinds = [...(step ? CHANGES : CHANGES_OF_RUN)].filter(
    ([name]) => name !== "passages" || passages.length > 0,
  );
  const [kind, setKind] = useState(kinds[0][0]);
  const [draft, setDraft] = useState(() => draftOf(trace, step));
  const [turned, setTurned] = useState(() => new Set());
  const { busy, problem, submit } = useSending(onRerun);
  const change = changeOf(kind, { step, question: trace.question, draft, passages, turned });
  const write = (value) => setDraft(new Map(draft).set(kind, value));
  const title = step ? `Change step ${step.id}` : "Change the run";
  return html`<${Dialog} title=${title} onClose=${onClose}>
    <form class="change" onSubmit=${(event) => submit(event, change)}>
      <p class="soft clamped">${text(step ? step.asked || step.question : trace.question)}</p>
      <fieldset class="choices"><legend>What is to be otherwise?</legend>
        ${kinds.map(([name, label]) => html`<label key=${name}><input type="radio" name="kind"
          checked=${kind === name} onChange=${() => setKind(name)} />${label}</label>`)}
      </fieldset>
      ${kind === "passages"
        ? html`<${PassageChoice} ...${{ step, passages, turned, setTurned }} />`
        : html`<${Draft} ...${{ kind, step, models }} value=${draft.get(kind)} onWrite=${write} />`}
      <p class="effect">${effectOf(trace, step, kind, turned)}</p>
      ${problem && html`<${ProblemNote} problem=${problem} />`}
      <div class="buttons">
        <button type="button" onClick=${onClose}>Cancel</button>
        <button class="primary" disabled=${busy || !change}>
          ${busy ? "Starting…" : "Run again"}</button>
      </div>
    </form>
  <//>`;
}

const draftOf = (trace, step) =>
  new Map([
    ["answer", text(step?.answer)],
    ["question", text(step ? step.question : trace.question)],
    ["model", ""],
  ]);

const HINTS = new Map([
  ["answer", "Given as if the model had said so; nothing is looked up for it."],
  ["model", "BACKEND:MODEL. It is asked wherever something is asked anew."],
]);

function Draft({ kind, step, models, value, onWrite }) {
  const refers = kind === "question" && step?.depends_on?.length > 0;
  const hint = refers ? "#1 stands for the answer of step 1." : HINTS.get(kind);
  const onInput = (event) => onWrite(event.target.value);
  const shared = { value, onInput, "aria-label": CHANGES.get(kind) };
  const input = kind === "model"
    ? html`<input list="models" placeholder="ollama:qwen3:8b" autocomplete="off"
          spellcheck=${false} ...${shared} />
        <datalist id="models">
          ${models.map((name) => html`<option key=${name} value=${name} />`)}</datalist>`
    : html`<textarea rows="3" dir="auto" maxlength="10000" ...${shared}></textarea>`;
  return html`<div class="draft">${input}${hint && html`<p class="soft">${hint}</p>`}</div>`;
}

function PassageChoice({ step, passages, turned, setTurned }) {
  const turn = (id) => {
    const next = new Set(turned);
    if (!next.delete(id)) next.add(id);
    setTurned(next);
  };
  const legend = step ? `What step ${step.id} is given` : "What the steps may be given";
  return html`<fieldset class="passages"><legend>${legend}</legend>
    ${passages.map(({ passage, own }) => html`<label key=${passage.id}>
      <input type="checkbox" checked=${own !== turned.has(passage.id)}
        onChange=${() => turn(passage.id)} />
      <span><b>${text(passage.title) || text(passage.source) || text(passage.id)}</b>
        ${" "}<span class="soft">${text(passage.text).slice(0, 200)}</span>
        ${turned.has(passage.id) && html` <span class="badge running">
          ${own ? "left out" : "added"}</span>`}
      </span></label>`)}
  </fieldset>`;
}

/** A change as a clause: `step 2 answers “Brno”`. */
function changeInWords(change) {
  if (!change) return "nothing";
  const whose = change.step ? `step ${text(change.step)}` : "the run";
  const quoted = (value) => `“${text(value)}”`;
  const passages = (ids, deed) =>
    Array.isArray(ids) && ids.length > 0 && `${amount(ids.length, "passage")} ${deed}`;
  const told = [
    change.answer != null && `${whose} answers ${quoted(change.answer)}`,
    change.question != null && `${whose} asks ${quoted(change.question)}`,
    passages(change.banned, "left out"),
    passages(change.pinned, "added"),
    change.model != null && `${text(change.model)} is asked`,
  ].filter(Boolean);
  const where = change.step && change.answer == null && change.question == null;
  return `${where ? `${whose}: ` : ""}${told.join(", ")}`;
}
