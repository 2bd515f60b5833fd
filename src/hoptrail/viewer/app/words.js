// Two texts side by side, word by word.
const MOST_CELLS = 4_000_000; // of the table that a difference of words is found with
const SIGNS = "[\\p{Script=Han}\\p{Script=Hiragana}\\p{Script=Katakana}]"; // a word each
const WORDS = new RegExp(`\\s+|\\[\\d+\\]|${SIGNS}|[\\p{L}\\p{M}\\p{N}_'’-]+|.`, "gsu");

/** Both texts; what only one of them has is marked. */
function SideBySide({ before, after, sides }) {
  const words = useMemo(() => wordDifference(before, after), [before, after]);
  return words.map((side, at) => html`<div key=${at} class="side">
    <p class="eyebrow">${sides[at]}</p>
    <p class="written" dir="auto"><${Marked} words=${side} side=${at} /></p></div>`);
}

const Nothing = () => html`<span class="soft">nothing</span>`;

function Marked({ words, side }) {
  if (words.length === 0) return html`<${Nothing} />`;
  const mark = side === 0 ? "del" : "ins";
  return words.map(({ piece, differs }, at) => h(differs ? mark : "span", { key: at }, piece));
}

/** Gives the words of both texts as [{piece, differs}], [{piece, differs}]. */
function wordDifference(before, after) {
  const [ours, theirs] = [before, after].map((whole) => whole.match(WORDS) ?? []);
  const [here, there] = differing(ours, theirs);
  return [joinedWords(ours, here), joinedWords(theirs, there)];
}

// Gives for both lists which places are not in their longest common subsequence.
function differing(ours, theirs) {
  let start = 0;
  while (start < ours.length && start < theirs.length && ours[start] === theirs[start]) start++;
  let [end, close] = [ours.length, theirs.length];
  for (; end > start && close > start && ours[end - 1] === theirs[close - 1]; end--) close--;
  const here = ours.map((_word, at) => at >= start && at < end);
  const there = theirs.map((_word, at) => at >= start && at < close);
  const [height, width] = [end - start + 1, close - start + 1];
  if (height * width > MOST_CELLS) return [here, there];
  const length = commonLengths(ours.slice(start, end), theirs.slice(start, close), width);
  for (let [row, column] = [0, 0]; row < height - 1 && column < width - 1; ) {
    const at = row * width + column;
    const isSame = ours[start + row] === theirs[start + column];
    if (isSame) here[start + row++] = there[start + column++] = false;
    else if (length[at + width] >= length[at + 1]) row++;
    else column++;
  }
  return [here, there];
}

function commonLengths(ours, theirs, width) {
  const length = new Uint16Array((ours.length + 1) * width);
  for (let row = ours.length - 1; row >= 0; row--)
    for (let column = theirs.length - 1; column >= 0; column--) {
      const at = row * width + column;
      const next = Math.max(length[at + width], length[at + 1]);
      length[at] = ours[row] === theirs[column] ? length[at + width + 1] + 1 : next;
    }
  return length;
}

// A space between two words that differ is marked with them, one at the edge is not.
function joinedWords(words, differs) {
  const marked = words.map((word, at) => {
    if (word.trim() !== "") return differs[at];
    return at > 0 && at < words.length - 1 && differs[at - 1] && differs[at + 1];
  });
  const pieces = [];
  words.forEach((word, at) => {
    const last = pieces.at(-1);
    if (last?.differs === marked[at]) last.piece += word;
    else pieces.push({ piece: word, differs: marked[at] });
  });
  return pieces;
}
