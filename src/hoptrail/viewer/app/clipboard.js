// Texts that somebody wants to take along.

/** A button that puts a text on the clipboard. */
function CopyButton({ of, what }) {
  const [state, setState] = useState("Copy");
  const copy = async () => {
    setState((await copied(of)) ? "Copied" : "Not allowed");
    setTimeout(setState, 1500, "Copy");
  };
  return html`<button type="button" class="copy" aria-label=${`${state} ${what}`} onClick=${copy}>
    ${state}</button>`;
}

/** Says whether a text is on the clipboard now; a frame without rights to it copies a field. */
async function copied(value) {
  if (copiedFromField(value)) return true;
  try {
    await navigator.clipboard.writeText(value);
    return true;
  } catch {
    return false;
  }
}

function copiedFromField(value) {
  const before = document.activeElement;
  const field = document.createElement("textarea");
  field.value = value;
  field.className = "unseen";
  document.body.append(field);
  field.select();
  const isDone = document.execCommand("copy");
  field.remove();
  before?.focus({ preventScroll: true });
  return isDone;
}
