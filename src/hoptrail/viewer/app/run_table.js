// Runs as a table, of which two can be picked to be compared.

// The roles are told again: a narrow screen lays the table out as cards.
function RunTable({ rows, picked, onPick }) {
  const full = picked.length >= 2;
  return html`<table class="runlist" role="table"><caption class="unseen">Runs</caption>
    <thead role="rowgroup"><tr role="row">
      <th role="columnheader"><span class="unseen">Compare</span></th>
      <th role="columnheader">Question and answer</th>
      <th role="columnheader">Status</th>
      <th role="columnheader">Backends</th>
      <th role="columnheader" class="number">Calls</th>
      <th role="columnheader" class="number">Time</th>
      <th role="columnheader">When</th></tr></thead>
    <tbody role="rowgroup">${rows.map((row) => html`<${RunLine} key=${row.run_id} row=${row}
      isPicked=${isIn(picked, row)} isFull=${full} onPick=${onPick} />`)}</tbody></table>`;
}

function RunLine({ row, isPicked, isFull, onPick }) {
  const name = `Pick for comparison: ${text(row.question)}`;
  const isOver = row.status !== "running";
  const calls = isOver && Number.isFinite(row.llm_calls) ? row.llm_calls : "";
  return html`<tr role="row" class=${isPicked ? "picked" : ""}>
    <td role="cell" class="pick"><input type="checkbox" aria-label=${name} checked=${isPicked}
      disabled=${isFull && !isPicked} onChange=${() => onPick(row)} /></td>
    <td role="cell" class="asked">
      <a class="clamped" dir="auto" href=${runAddress(row.run_id)}>${text(row.question)}</a>
      <${Outcome} row=${row} /></td>
    <td role="cell" class="status"><${StatusBadge} status=${row.status} />
      ${row.degraded && html` <span class="badge degraded">degraded</span>`}</td>
    <td role="cell" class="backends">${namesIn(row.backends).join(", ")}</td>
    <td role="cell" class="number calls" data-unit=${calls === 1 ? " call" : " calls"}>${calls}</td>
    <td role="cell" class="number lasted">${isOver && duration(row.wall_ms)}</td>
    <td role="cell" class="when"><${When} time=${row.created} /></td></tr>`;
}

function Outcome({ row }) {
  const answer = text(row.answer).trim().split("\n", 1)[0];
  const why = row.status === "failed" ? stopReason(row.stop_reason) : "";
  return html`<p class="soft clamped" dir="auto">${answer || why}</p>
    ${row.parent_run_id && html`<p class="fork"><span aria-hidden="true">↳ </span>changed
      from <a href=${runAddress(row.parent_run_id)}>${text(row.parent_run_id)}</a>${" · "}
      <a href=${compareAddress(row.parent_run_id, row.run_id)}>compare</a></p>`}`;
}

/** A time as it is from now, and exactly when it is pointed at. */
function When({ time }) {
  const then = new Date(text(time));
  if (Number.isNaN(then.getTime())) return html`<span>${text(time)}</span>`;
  return html`<time dateTime=${then.toISOString()} title=${then.toLocaleString()}>
    ${ago(then, new Date())}</time>`;
}

const AGES = [
  [60, "second"],
  [3600, "minute"],
  [86400, "hour"],
  [7 * 86400, "day"],
];

/** `just now`, `5 minutes ago`; after a week the day itself. */
function ago(then, now) {
  const seconds = Math.round((now - then) / 1000);
  if (seconds < 10) return "just now";
  let unit = 1;
  for (const [limit, noun] of AGES) {
    if (seconds < limit) return `${amount(Math.floor(seconds / unit), noun)} ago`;
    unit = limit;
  }
  return then.toLocaleDateString("en", { day: "numeric", month: "short", year: "numeric" });
}

function Picked({ picked, onClear }) {
  if (picked.length === 0) return null;
  const age = ({ created }) => Date.parse(created);
  const [before, after] = [...picked].sort((one, other) => age(one) - age(other));
  return html`<div class="pickbar panel" role="status">
    <span>${after ? "Two runs are picked." : "One run is picked; pick another one."}</span>
    <span class="buttons"><button class="plain" onClick=${onClear}>Clear</button>
    ${after && html`<a class="button" href=${compareAddress(before.run_id, after.run_id)}>
      Compare</a>`}</span></div>`;
}
