// How a run or a step stands: always a shape and a word, never a colour alone.
const STATUSES = new Map([
  ["answered", { word: "answered", shape: "M4.6 8.3l2.3 2.3 4.5-5" }],
  ["abstained",
    { word: "not found", shape: "M5.9 6.2a2.1 2.1 0 1 1 3 2c-.6.3-.9.7-.9 1.3M8 11.6v.1" }],
  ["failed", { word: "failed", shape: "M5.4 5.4l5.2 5.2M10.6 5.4l-5.2 5.2" }],
  ["interrupted", { word: "interrupted", shape: "M6.4 5.4v5.2M9.6 5.4v5.2" }],
  ["running", { word: "running", shape: "M8 4.7V8l2.2 1.6" }],
  ["waiting", { word: "waiting", shape: "" }],
]);

/** A status that the page knows how to draw; any other is `waiting`. */
const knownStatus = (status) => (STATUSES.has(status) ? status : "waiting");

const statusWord = (status) => STATUSES.get(knownStatus(status)).word;

/** The shape of a status; its word must stand beside it. */
function StatusMark({ status }) {
  const known = knownStatus(status);
  return html`<svg class=${`mark-of ${known}`} viewBox="0 0 16 16" width="16" height="16"
    aria-hidden="true">
    <circle cx="8" cy="8" r="7" class="ring" />
    <path d=${STATUSES.get(known).shape} class="sign" />
  </svg>`;
}

/** A run's status as a badge: shape and word. */
function StatusBadge({ status }) {
  const known = knownStatus(status);
  const word = known === "abstained" ? "abstained" : statusWord(known);
  return html`<span class=${`badge ${known}`}><${StatusMark} status=${known} />${word}</span>`;
}
