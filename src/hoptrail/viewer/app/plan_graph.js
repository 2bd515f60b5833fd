// The plan, drawn: its nodes are buttons over a drawing of its edges.
const MOST_DRAWN = 400;
const MOST_TOLD = 8;
const SMALLEST_FIT = 0.86; // what is pointed at stays 24 pixels high
const SMALLEST_ZOOM = 0.35;
const NO_SHAPE = { nodes: [], edges: [], told: [] };

function PlanGraph({ run, view, chain }) {
  const isTooLarge = run.steps.length > MOST_DRAWN;
  const shape = useMemo(() => (isTooLarge ? NO_SHAPE : planShape(run)), [run]);
  const [room, roomRef] = useWidth();
  const [hasQuestions, setQuestions] = useState(false);
  const [readable, layout] = useLayouts(shape, room, hasQuestions);
  const [zoom, setZoom] = useState(null);
  if (isTooLarge) {
    return html`<section class="panel plan"><h2>Plan</h2>
      <p class="soft">${amount(run.steps.length, "step")}: too many to draw.</p></section>`;
  }
  if (!layout) return null;
  const fit = fittingZoom(layout, room);
  const hasNumbers = readable.face === "number";
  const turn = () => {
    setQuestions(!hasQuestions);
    setZoom(null);
  };
  return html`<section class="panel plan" aria-labelledby="plan-title">
    <div class="panel-head"><h2 id="plan-title">Plan</h2><${PlanLegend} shape=${shape} />
      <span class="zoom" role="group" aria-label="View of the plan">
        ${hasNumbers && html`<button type="button" class="plain"
          aria-pressed=${String(hasQuestions)} onClick=${turn}>Questions</button>`}
        ${(hasNumbers || fit < 1) && html`<${Zoom} ...${{ zoom: zoom ?? fit, fit, setZoom }} />`}
      </span></div>
    <div class="plan-room" ref=${roomRef}>
      <${PlanCanvas} ...${{ shape, layout, run, view, chain }} zoom=${zoom ?? fit} />
    </div>
  </section>`;
}

/** Gives the layout that can be read in a room, and the one that was wished for. */
function useLayouts(shape, room, hasQuestions) {
  const nodes = shape.nodes.map((node) => node.at).join();
  const edges = [...shape.edges, ...shape.told].map((edge) => `${edge.from} ${edge.to}`).join();
  return useMemo(() => {
    if (shape.nodes.length < 2) return [null, null];
    const readable = readableLayout(shape, room);
    const isWished = hasQuestions && readable.face === "number";
    return [readable, isWished ? bestLayout(shape, "line", room) : readable];
  }, [nodes, edges, room, hasQuestions]);
}

function fittingZoom(layout, room) {
  if (layout.face === "line") return 1;
  const least = layout.face === "full" ? READABLE_ZOOM : SMALLEST_FIT;
  return Math.min(1, Math.max(least, room / layout.width));
}

/** The width of an element, followed while it changes. */
function useWidth() {
  const ref = useRef(null);
  const [width, setWidth] = useState(640);
  useEffect(() => {
    if (!ref.current) return undefined;
    const watcher = new ResizeObserver(([entry]) => setWidth(Math.round(entry.contentRect.width)));
    watcher.observe(ref.current);
    return () => watcher.disconnect();
  }, [ref.current]);
  return [width, ref];
}

function PlanLegend({ shape }) {
  const isCut = shape.told.length > MOST_TOLD;
  return html`<span class="plan-legend soft">
    ${shape.told.length > 0 && html`<span><i class="line similar" />
      told of, as similar${isCut && " (of what is looked at)"}</span>`}
    ${shape.edges.some((edge) => edge.kind === "after") && html`<span><i class="line after" />
      chosen after</span>`}
  </span>`;
}

function Zoom({ zoom, fit, setZoom }) {
  const by = (factor) => setZoom(Math.min(1.5, Math.max(SMALLEST_ZOOM, zoom * factor)));
  return html`<button type="button" class="plain" aria-label="Smaller"
      onClick=${() => by(0.8)}>−</button>
    <button type="button" class="plain" title="as it fits, or as it is"
      onClick=${() => setZoom(zoom === fit ? 1 : null)}>${Math.round(zoom * 100)} %</button>
    <button type="button" class="plain" aria-label="Larger" onClick=${() => by(1.25)}>+</button>`;
}

function PlanCanvas({ shape, layout, zoom, run, view, chain }) {
  // The places stay as long as the plan does; how its steps stand is told anew.
  const fresh = new Map(shape.nodes.map((node) => [node.at, node]));
  const { width, height, face } = layout;
  const size = { width: `${width * zoom}px`, height: `${height * zoom}px` };
  const full = { width: `${width}px`, height: `${height}px`, transform: `scale(${zoom})` };
  return html`<div class="plan-size" style=${size}>
    <div class="plan-canvas" style=${full}>
      <svg width=${width} height=${height} aria-hidden="true">
        <${PlanEdges} ...${{ shape, layout, view, chain }} />
      </svg>
      ${layout.nodes.map((place) => html`<${PlanNode} key=${place.at} place=${place}
        node=${fresh.get(place.at) ?? place} ...${{ face, run, view }} />`)}
    </div>
  </div>`;
}

function PlanEdges({ shape, layout, view, chain }) {
  const onChain = new Set(chain.links.map((link) => link.key));
  const isNear = (edge) => view.selected === edge.from || view.selected === edge.to;
  const areAllDrawn = shape.told.length <= MOST_TOLD;
  const isDrawn = (edge) => edge.kind !== "similar" || areAllDrawn || isNear(edge);
  const isLongest = (edge) =>
    edge.kind !== "similar" && onChain.has(edge.from) && onChain.has(edge.to);
  return layout.edges.filter(isDrawn).map((edge) => html`<g
    key=${`${edge.from} ${edge.to} ${edge.kind}`}
    class=${`edge ${edge.kind}${isNear(edge) ? " near" : ""}${isLongest(edge) ? " on-chain" : ""}`}>
    <path d=${edge.path} /><path class="head" d=${arrowHead(edge)} /></g>`);
}

function arrowHead({ end: [x, y], way: [right, down] }) {
  const [backX, backY] = [x - 6 * right, y - 6 * down];
  const [asideX, asideY] = [4 * down, 4 * right];
  return `M${backX - asideX} ${backY - asideY}L${x} ${y}L${backX + asideX} ${backY + asideY}`;
}

function PlanNode({ place, node, face, run, view }) {
  const { step, key } = node;
  const style = {
    left: `${place.x - place.width / 2}px`, top: `${place.y - place.height / 2}px`,
    width: `${place.width}px`, height: `${place.height}px`,
  };
  const isSelected = view.selected === key;
  const state = `${isSelected ? " selected" : ""}${litClass(view.lit.steps.has(key))}`;
  const tip = (event) => step && view.tip(event.currentTarget, stepTip(step, run));
  return html`<button type="button" style=${style} aria-label=${nodeInWords(node)}
    class=${`node ${node.kind} ${node.status} ${face}${state}`}
    aria-current=${isSelected ? "true" : null} onClick=${() => view.select(key)}
    ...${tipping(view, key, tip)}>
    <${step ? StepFace : Pill} ...${{ node, face }} />
  </button>`;
}

function nodeInWords({ step, label, status, isWarned }) {
  const warned = isWarned || step?.warnings.length ? " (with warnings)" : "";
  const name = step ? `Step ${step.id ?? "?"}` : label;
  const question = step ? `: ${step.asked || step.question}` : "";
  return `${name}, ${statusWord(status)}${question}${warned}`;
}

function Pill({ node, face }) {
  return html`<${StatusMark} status=${node.status} />
    <span class="node-label">${face === "number" ? node.short : node.label}</span>
    ${node.isWarned && html`<${Warned} />`}`;
}

function StepFace({ node: { step }, face }) {
  const name = html`<b>${step.id ?? "?"}</b>${step.warnings.length > 0 && html`<${Warned} />`}`;
  const question = html`<span class="node-question"><bdi>${step.question}</bdi></span>`;
  if (face !== "full") {
    return html`<${StatusMark} status=${step.status} />${name}${face === "line" && question}`;
  }
  const who = backendOf(step);
  return html`<span class="node-line"><${StatusMark} status=${step.status} />${name}
      ${step.round > 0 && html`<span class="node-round">round ${step.round + 1}</span>`}
      ${who.name && html`<${BackendBadge} ...${who} calls=${1} />`}</span>
    ${question}`;
}

const Warned = () => html`<span class="warned" title="with warnings">!</span>`;

/** The backend that answered a step or is being asked; or where its record is from. */
function backendOf(step) {
  const call = step.calls.at(-1);
  if (step.given) return { name: "given", degraded: false };
  if (!keptFrom(step)) {
    const name = call?.backend || call?.attempts.at(-1)?.backend || "";
    return { name, degraded: call?.degraded ?? false };
  }
  return { name: step.fromRun || call?.fromRun ? "kept" : "journal", degraded: false };
}

function stepTip(step, run) {
  const said = step.answer || step.error || statusWord(step.status);
  const took = step.started === null ? "" : duration(endOfStep(step, run) - step.started);
  return {
    title: `Step ${step.id ?? "?"}`,
    aside: keptFrom(step) || took,
    lines: [["", step.asked || step.question], ["answer", said]],
  };
}
