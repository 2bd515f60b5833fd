// Asking somebody for something: a dialog, what is sent from it, what came instead.

/** A modal dialog; whoever opened it has the focus again afterwards. */
function Dialog({ title, onClose, children }) {
  const dialog = useRef(null);
  useEffect(() => {
    const shown = dialog.current;
    shown.showModal();
    return () => shown.close();
  }, []);
  const cancelled = (event) => {
    event.preventDefault();
    onClose();
  };
  return html`<dialog ref=${dialog} class="dialog" aria-label=${title} onCancel=${cancelled}>
    <h2>${title}</h2>${children}</dialog>`;
}

/** What the server said against it, and the way out. */
function ProblemNote({ problem }) {
  return html`<div class="notice failed" role="alert"><p>${text(problem.message)}</p>
    ${problem.fix && html`<p class="soft">${text(problem.fix)}</p>`}</div>`;
}

/** Gives {busy, problem, submit}: sends what a form holds once at a time. */
function useSending(send) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState(null);
  const submit = async (event, wish) => {
    event.preventDefault();
    if (busy || !wish) return;
    setBusy(true);
    setProblem(null);
    try {
      await send(wish);
    } catch (error) {
      setProblem(error);
    }
    setBusy(false);
  };
  return { busy, problem, submit };
}
