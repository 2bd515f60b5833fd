// One run, from its trace document.

/**
 * @param trace    the trace document
 * @param actions  what can be done with the run, or null in a file:
 *                 {rerun(change): Promise<runId>, cancel(): Promise, models: [name], exportAddress}
 * @param answerSoFar  text of an answer that is being written, or ""
 */
function RunView({ trace, actions, answerSoFar }) {
  return html`<main><h1>${text(trace.question)}</h1><p>${text(trace.answer) || answerSoFar}</p></main>`;
}
