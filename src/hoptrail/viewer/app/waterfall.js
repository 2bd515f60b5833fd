// The bars of a run, drawn over its time: one row for the plan, each step and the answer.
const BAR_KINDS = new Map([
  ["waiting", "waiting for answers"],
  ["queue", "queueing"],
  ["retrieval", "retrieval"],
  ["pause", "pause"],
  ["failed", "failed attempt"],
  ["first", "first token"],
  ["generation", "generation"],
  ["tool", "tool"],
]);
const ROOM_FOR_A_LABEL = 0.92;

function Waterfall({ run, view, chain }) {
  const rows = useMemo(() => waterfallRows(run), [run]);
  const total = Math.max(run.usage.wall, run.running ? run.now : 0, ...rows.map((row) => row.to));
  if (!rows.length || !total) return null;
  const onChain = new Set(chain.links.length > 1 ? chain.links.map((link) => link.key) : []);
  const kinds = new Set(rows.flatMap((row) => row.bars.map((bar) => bar.kind)));
  return html`<section class="panel waterfall" aria-labelledby="time-title">
    <div class="panel-head"><h2 id="time-title">Time</h2>
      <${TimeLegend} kinds=${kinds} hasChain=${onChain.size > 0} /></div>
    <div class="falls">
      <${TimeAxis} total=${total} />
      <ol>${rows.map((row) => html`<${Fall} key=${row.key} ...${{ row, total, view }}
        isOnChain=${onChain.has(row.key)} />`)}</ol>
    </div>
  </section>`;
}

function TimeLegend({ kinds, hasChain }) {
  const shown = [...BAR_KINDS].filter(([kind]) => kinds.has(kind));
  return html`<ul class="legend soft">
    ${shown.map(([kind, words]) => html`<li key=${kind}><i class=${`bar ${kind}`} />${words}</li>`)}
    ${hasChain && html`<li><i class="chain-mark">◆</i>longest chain</li>`}
  </ul>`;
}

function TimeAxis({ total }) {
  const label = (tick) => tick < total * ROOM_FOR_A_LABEL && duration(tick);
  return html`<div class="axis" aria-hidden="true">
    ${timeTicks(total).map((tick) => html`<span key=${tick}
      style=${{ left: `${(100 * tick) / total}%` }}>${label(tick)}</span>`)}
  </div>`;
}

function Fall({ row, total, isOnChain, view }) {
  const isSelected = view.selected === row.key;
  const state = `${isSelected ? " selected" : ""}${litClass(view.lit.steps.has(row.key))}`;
  const tip = (event) => view.tip(event.currentTarget, fallTip(row, event.target.dataset?.bar));
  return html`<li class=${`fall${state}${row.isVoid ? " void" : ""}`}>
    <button type="button" aria-current=${isSelected ? "true" : null}
      onClick=${() => view.select(row.key)} ...${tipping(view, row.key, tip)}>
      <${FallName} row=${row} isOnChain=${isOnChain} />
      <span class="track">
        ${row.kept && html`<span class="kept soft"><bdi>${row.kept}</bdi></span>`}
        ${row.bars.map((bar, at) => html`<${TimeBar} key=${at} ...${{ bar, at, total }} />`)}
      </span>
      <span class="took number">${workOf(row) > 0 && duration(workOf(row))}</span>
      <span class="unseen">${fallInWords(row)}</span>
    </button>
  </li>`;
}

function FallName({ row, isOnChain }) {
  return html`<span class="fall-name">
    ${isOnChain && html`<i class="chain-mark" title="on the longest chain">◆</i>`}
    ${row.status && html`<span class="unseen">Step </span>`}<b>${row.name}</b>
    ${row.isVoid && html`<span class="soft">void</span>`}
    <bdi class="fall-question">${row.question}</bdi></span>`;
}

/** What shows a box beside a part of the run while it is pointed at, and lights its kin. */
function tipping(view, key, tip) {
  const leave = () => {
    view.tip(null);
    view.point(null);
  };
  return {
    onMouseEnter: () => view.point({ step: key }),
    onMouseOver: tip,
    onMouseLeave: leave,
    onFocus: (event) => {
      view.point({ step: key });
      // A click must leave no box behind.
      if (event.currentTarget.matches(":focus-visible")) tip(event);
    },
    onBlur: leave,
  };
}

function TimeBar({ bar, at, total }) {
  const share = (ms) => (100 * ms) / total;
  const left = share(bar.from);
  const width = Math.max(0, Math.min(100 - left, share(bar.to - bar.from)));
  return html`<span class=${`bar ${bar.kind}`} data-bar=${at}
    style=${{ left: `${left}%`, width: `${width}%` }} />`;
}

const fallInWords = (row) =>
  row.bars.map((bar) => `${BAR_KINDS.get(bar.kind)} ${duration(bar.to - bar.from)}`).join(", ");

function fallTip(row, hovered) {
  const lines = row.bars.map(({ kind, note, from, to }, at) => {
    const words = note ? `${BAR_KINDS.get(kind)}: ${note}` : BAR_KINDS.get(kind);
    return [kind, words, duration(to - from), hovered !== undefined && at === Number(hovered)];
  });
  const when = row.bars.length ? `${duration(row.from)} to ${duration(row.to)}` : "";
  const title = row.status ? `Step ${row.name}` : row.name;
  return { title, aside: row.kept || when, lines, isTimed: true };
}
