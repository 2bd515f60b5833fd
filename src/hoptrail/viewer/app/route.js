// Addresses within the page: what follows the # in the browser's own.
const RUN_ID = /^[A-Za-z0-9_-]{1,64}$/;

const runAddress = (id, step) =>
  `#/runs/${encodeURIComponent(text(id))}${step ? `?step=${step}` : ""}`;
const compareAddress = (before, after) =>
  `#/compare/${encodeURIComponent(text(before))}/${encodeURIComponent(text(after))}`;

/** Gives {path, parts, query} of a hash, which anybody may have written. */
function routeOf(hash) {
  const [, path = "", query = ""] = /^#?\/?([^?]*)\??(.*)$/s.exec(hash) ?? [];
  return { path, parts: path.split("/").filter(Boolean), query: new URLSearchParams(query) };
}

function stepIn(query) {
  const step = query.get("step") ?? "";
  return /^\d{1,6}$/.test(step) ? Number(step) : null;
}

const goTo = (hash) => {
  location.hash = hash;
};

/** Changes the address without a step in the history, as for what is being typed. */
function setRoute(hash) {
  history.replaceState(null, "", hash);
  dispatchEvent(new HashChangeEvent("hashchange"));
}

function useRoute() {
  const [hash, setHash] = useState(location.hash);
  useEffect(() => {
    const turned = () => setHash(location.hash);
    addEventListener("hashchange", turned);
    return () => removeEventListener("hashchange", turned);
  }, []);
  return useMemo(() => routeOf(hash), [hash]);
}

function useTitle(title) {
  useEffect(() => {
    document.title = title ? `${title} · Hoptrail` : "Hoptrail";
  }, [title]);
}

let arrivals = 0;

/** Once a page that somebody went to can be seen, its heading has the focus. */
function useArrival(isThere, keepsPlace = false) {
  useEffect(() => {
    if (!isThere || arrivals++ === 0) return;
    const heading = document.querySelector("h1");
    heading?.setAttribute("tabindex", "-1");
    heading?.focus({ preventScroll: true });
    if (!keepsPlace) scrollTo(0, 0);
  }, [isThere]);
}
