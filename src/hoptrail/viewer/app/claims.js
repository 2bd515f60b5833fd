// What an answer claims, what each claim rests on, and what belongs together on the page.
const CITATION_MARKS = /\[(\d{1,3}(?:\s*,\s*\d{1,3})*)\]/g;
const NO_ABBREVIATION = "(?<!(?:^|[^\\p{L}])(?:\\p{Lu}|Mr|Mrs|Ms|Dr|St|No|vs|cf))";
const MARKS_BEHIND = "(?:\\s*\\[\\d[\\d,\\s]*\\])*";
const NEXT_BEGINS = '(?=["“‘(¿¡]?[\\p{Lu}\\p{N}])';
const SENTENCE_END = new RegExp(
  `${NO_ABBREVIATION}[.!?…]["”’)\\]]*${MARKS_BEHIND}\\s+${NEXT_BEGINS}|[。！？]`,
  "gu",
);

/**
 * Gives an answer as lines of sentences, each of pieces: {text}, or {mark, end}: the number
 * of a citation and the stop that must not be parted from it.
 * A sentence with marks is a claim and has a number of its own; numbers of no citation are text.
 */
function claimsOf(answer, citations) {
  let claims = 0;
  const lines = answer.split("\n").filter((line) => line.trim());
  return lines.map((line) =>
    sentencesOf(line).map((sentence) => {
      const pieces = markedSentence(sentence, citations);
      const cites = [...new Set(pieces.flatMap((piece) => piece.mark ?? []))];
      return { claim: cites.length ? claims++ : null, cites, pieces };
    }),
  );
}

function sentencesOf(line) {
  const sentences = [];
  let start = 0;
  for (const end of line.matchAll(SENTENCE_END)) {
    sentences.push(line.slice(start, end.index + end[0].length));
    start = end.index + end[0].length;
  }
  return [...sentences, line.slice(start)].filter(Boolean);
}

function markedSentence(sentence, citations) {
  const pieces = [];
  let start = 0;
  for (const mark of sentence.matchAll(CITATION_MARKS)) {
    const numbers = mark[1].split(",").map(Number);
    if (!numbers.every((number) => number >= 1 && number <= citations)) continue;
    const to = mark.index + mark[0].length;
    const [end] = /^[.,;:!?)…]*/.exec(sentence.slice(to, to + 4));
    pieces.push({ text: sentence.slice(start, mark.index) });
    pieces.push(...numbers.map((number) => ({ mark: number })));
    pieces.at(-1).end = end;
    start = to + end.length;
  }
  return [...pieces, { text: sentence.slice(start) }].filter((piece) => piece.mark || piece.text);
}

/** Gives the answer without its first line where that line is the short answer, and that answer. */
function shortAndLong(run) {
  const [first, ...rest] = run.answer.split("\n").filter((line) => line.trim());
  const bare = (line) => (line ?? "").replace(CITATION_MARKS, "").replace(/^[*\s]+|[*.\s]+$/g, "");
  const short = bare(run.shortAnswer);
  if (short === "" || short === bare(run.answer)) return { short: "", long: run.answer };
  if (rest.length && short === bare(first)) return { short: first, long: rest.join("\n") };
  return { short: run.shortAnswer, long: run.answer };
}

/** Gives what hangs together: each citation with its passage, its steps and the claims it bears. */
function linksOf(run) {
  const { short, long } = shortAndLong(run);
  const sentences = claimsOf(`${short}\n${long}`, run.citations.length).flat();
  const claims = sentences.filter((sentence) => sentence.claim !== null);
  return run.citations.map((citation, at) => ({
    number: at + 1,
    passage: citation.passage,
    steps: stepsCiting(run, citation),
    claims: claims.filter((claim) => claim.cites.includes(at + 1)).map((claim) => claim.claim),
  }));
}

function stepsCiting(run, citation) {
  const cites = (step) => step.citations.some((each) => each.passage === citation.passage);
  const named = run.byId.get(citation.step);
  const citing = [...(named ? [named] : []), ...run.steps.filter(cites)];
  return [...new Set(citing.map((step) => step.key))];
}

/**
 * Gives what is lit while something is pointed at: a `claim`, `citation`, `passage` or `step` (its
 * key), or null. A claim lights its citations, their passages and steps, and each of them it.
 */
function litBy(links, focus) {
  const lit = { claims: new Set(), citations: new Set(), passages: new Set(), steps: new Set() };
  if (!focus) return lit;
  for (const link of links) {
    if (!touches(link, focus)) continue;
    lit.citations.add(link.number);
    lit.passages.add(link.passage);
    link.steps.forEach((key) => lit.steps.add(key));
    link.claims.forEach((claim) => lit.claims.add(claim));
  }
  if (focus.step !== undefined) lit.steps.add(focus.step);
  return lit;
}

function touches(link, focus) {
  if (focus.claim !== undefined) return link.claims.includes(focus.claim);
  if (focus.citation !== undefined) return link.number === focus.citation;
  if (focus.passage !== undefined) return link.passage === focus.passage;
  return link.steps.includes(focus.step);
}

const LONGEST_QUOTE = 2000;

/** Gives a passage in pieces {text, quoted}; white space in a quote stands for any. */
function quotedPieces(passage, quotes) {
  const found = quotes.map((quote) => spanOf(passage, quote)).filter(Boolean);
  const spans = found.sort((one, other) => one[0] - other[0]);
  const pieces = [];
  let start = 0;
  for (const [from, to] of spans) {
    if (from < start) continue;
    pieces.push({ text: passage.slice(start, from), quoted: false });
    pieces.push({ text: passage.slice(from, to), quoted: true });
    start = to;
  }
  return [...pieces, { text: passage.slice(start), quoted: false }].filter((piece) => piece.text);
}

function spanOf(passage, quote) {
  if (quote.length > LONGEST_QUOTE) return null;
  const exactly = (word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const words = quote.split(/\s+/).filter(Boolean).map(exactly);
  const found = words.length ? new RegExp(words.join("\\s+")).exec(passage) : null;
  return found && [found.index, found.index + found[0].length];
}
