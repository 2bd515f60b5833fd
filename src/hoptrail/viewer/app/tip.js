// The box beside what is pointed at: its numbers, which the page holds as text as well.
const TIP_WIDTH = 340;
const TIP_HEIGHT = 220;

function placeBeside(element) {
  const { left, top, bottom } = element.getBoundingClientRect();
  const x = Math.max(8, Math.min(left, innerWidth - TIP_WIDTH - 8));
  const isAbove = innerHeight - bottom < TIP_HEIGHT && top > innerHeight / 2;
  const y = isAbove ? { bottom: `${innerHeight - top + 6}px` } : { top: `${bottom + 6}px` };
  return { left: `${x}px`, ...y };
}

function Tip({ tip }) {
  if (!tip) return null;
  return html`<div class="tip" style=${tip.place} aria-hidden="true">
    <p class="tip-head"><b>${said(tip.title)}</b><span class="soft">${said(tip.aside)}</span></p>
    ${tip.isTimed
      ? html`<ul>${tip.lines.map((line, at) => html`<${TimedLine} key=${at} line=${line} />`)}</ul>`
      : tip.lines.map((line, at) => html`<${SaidLine} key=${at} line=${line} />`)}
  </div>`;
}

const SaidLine = ({ line: [kind, words] }) => html`<p class=${kind} dir="auto">${words}</p>`;

function TimedLine({ line: [kind, words, took, isHere] }) {
  return html`<li class=${isHere ? "here" : ""}><i class=${`bar ${kind}`} />${said(words)}
    <span class="number">${took}</span></li>`;
}
