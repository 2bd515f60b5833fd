// What the parts of a run's page share: what is looked at, and what is lit.

/**
 * Gives [view, tip]. The view holds what is `selected` and `lit`, the passage that a citation led
 * to (`target`), and how to change them: `select`, `move`, `openCitation`, `point` and `tip`.
 */
function useView(run, actions, wanted) {
  const [selected, chosen, choose] = useSelected(run, wanted);
  const [target, setTarget] = useState(null);
  const [focus, setFocus] = useState(null);
  const [tip, setTip] = useState(null);
  const { answer, shortAnswer, steps, citations } = run;
  const links = useMemo(() => linksOf(run), [answer, shortAnswer, steps, citations]);
  const lit = useMemo(() => litBy(links, focus), [links, focus]);
  const select = (key, passage = null) => {
    choose(key);
    setTarget(passage === null ? null : { key, passage });
  };
  useEffect(() => showInRoom(), [selected]);
  useEffect(() => {
    if (chosen.key !== null && target === null) showCard();
  }, [chosen]);
  const view = {
    actions, selected, lit, target, select, point: setFocus,
    tip: (element, content) => setTip(element && { ...content, place: placeBeside(element) }),
    openCitation: (number) => {
      const link = links[number - 1];
      if (link?.steps.length) select(link.steps[0], link.passage);
    },
    move: (by) => {
      const parts = partsOf(run);
      const at = parts.indexOf(selected) + by;
      if (at >= 0 && at < parts.length) select(parts[at]);
    },
  };
  return [view, tip];
}

/** Gives what is looked at, as it was chosen here, `wanted` from outside, or worth it. */
function useSelected(run, wanted) {
  const [chosen, setChosen] = useState({ run: run.id, key: null });
  const choose = (key) => setChosen({ run: run.id, key });
  const wantedKey = run.byId.get(wanted)?.key;
  useEffect(() => {
    if (wantedKey) choose(wantedKey);
  }, [run.id, wantedKey]);
  const isChosen = chosen.run === run.id && partsOf(run).includes(chosen.key);
  return [isChosen ? chosen.key : firstToLookAt(run), chosen, choose];
}

/** Moves the plan, where it scrolls in itself, to what is looked at; the page stays. */
function showInRoom() {
  const node = document.querySelector(".plan-room .selected");
  const room = node?.closest(".plan-room");
  if (!room) return;
  const [inner, outer] = [node.getBoundingClientRect(), room.getBoundingClientRect()];
  const across = beyond(inner.left, inner.right, outer.left, outer.right);
  room.scrollBy(across, beyond(inner.top, inner.bottom, outer.top, outer.bottom));
}

const EDGE = 12;

function beyond(start, end, from, to) {
  if (start < from) return start - from - EDGE;
  return end > to ? end - to + EDGE : 0;
}

/** Brings the head of the card into view, if it is not there. */
function showCard() {
  const title = document.getElementById("card-title");
  if (!title) return;
  const { top, bottom } = title.getBoundingClientRect();
  if (top < 0 || bottom > innerHeight) bringIntoView(title.closest(".card"), "start");
}

function bringIntoView(element, block = "center") {
  const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  // Only after this drawing is done does the element have its place.
  requestAnimationFrame(() =>
    element?.scrollIntoView({ block, behavior: isCalm ? "auto" : "smooth" }));
}
