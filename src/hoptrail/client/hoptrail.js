// Hoptrail in the browser: embeddings and multi-hop questions, without a build step or a
// dependency. It runs wherever there are ES modules and fetch (Node 20 included).
//
//   import { askMultiHop } from "/client/hoptrail.js";
//   const answer = await askMultiHop("Which river flows through ...?", { onEvent: console.log });
//
// The types are in hoptrail.d.ts beside this file.

const EMBEDDING_TIMEOUT_MS = 30_000;
const IDLE_MS = 30_000; // a server gives a sign of life every 10 seconds
const RECONNECTS = 5;
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 8_000;
const STOP_MS = 5_000;

// ---------------------------------------------------------------- errors

export class HoptrailError extends Error {
  name = "HoptrailError";

  constructor(type, message, { fix = null, retryAfter = null, status = null, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.type = type;
    this.fix = fix;
    this.retryAfter = retryAfter;
    this.status = status;
  }
}

// ---------------------------------------------------------------- doors

export function createClient({ baseUrl = ownServer(), token = null, fetch = null } = {}) {
  const server = new Server(baseUrl, token, fetch);
  return Object.freeze({
    baseUrl: server.base,
    generateHuggingFaceEmbedding: async (text, options = {}) => embedOne(server, text, options),
    generateHuggingFaceEmbeddings: async (texts, options = {}) => embedAll(server, texts, options),
    askMultiHop: async (question, options = {}) => ask(server, question, options),
  });
}

export async function generateHuggingFaceEmbedding(text, options = {}) {
  return createClient().generateHuggingFaceEmbedding(text, options);
}

export async function generateHuggingFaceEmbeddings(texts, options = {}) {
  return createClient().generateHuggingFaceEmbeddings(texts, options);
}

export async function askMultiHop(question, options = {}) {
  return createClient().askMultiHop(question, options);
}

// The server that this file came from, below whatever prefix a proxy put it; a copy of the file
// that was bundled into a page belongs to the page's own server.
function ownServer() {
  const here = new URL(import.meta.url);
  if (here.protocol.startsWith("http")) {
    const served = here.pathname.endsWith("/client/hoptrail.js");
    return new URL(served ? ".." : "/", here).href;
  }
  const { origin } = globalThis.location ?? {};
  return origin?.startsWith("http") ? `${origin}/` : null;
}

// ---------------------------------------------------------------- the server

class Server {
  constructor(base, token, fetch) {
    this.base = base === null ? null : new URL(`${base}`.replace(/\/*$/, "/")).href;
    this.token = token;
    this.fetch = fetch;
  }

  // Gives a response with a status of success; whatever else happens is a HoptrailError, but
  // for the caller's own abort, which is passed on as it is.
  async send(path, patience, { body, headers = {}, ...more } = {}) {
    if (this.base === null) {
      throw new HoptrailError("unreachable", "there is no page whose server could be asked", {
        fix: "createClient({ baseUrl: \"http://127.0.0.1:8700\" })",
      });
    }
    const { signal } = patience;
    const request = { ...more, headers: { ...headers }, signal, cache: "no-store" };
    if (this.token !== null) request.headers.Authorization = `Bearer ${this.token}`;
    if (body !== undefined) {
      request.method = "POST";
      request.headers["Content-Type"] = "application/json";
      request.body = JSON.stringify(body);
    }
    const fetch = this.fetch ?? globalThis.fetch; // a method call would give it a wrong `this`
    const url = new URL(path, this.base);
    const response = await patience.with(() => fetch(url, request));
    if (!response.ok) throw await refusal(response, patience);
    return response;
  }

  async json(path, patience, body) {
    const response = await this.send(path, patience, { body });
    const found = await jsonOf(response, patience);
    if (found === null || typeof found !== "object") throw stranger(response.status);
    return found;
  }
}

async function jsonOf(response, patience) {
  return jsonIn(await patience.with(() => response.text()));
}

function jsonIn(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

async function refusal(response, patience) {
  const { status, statusText, headers } = response;
  const retryAfter = seconds(headers.get("Retry-After"));
  const problem = (await jsonOf(response, patience))?.error;
  if (problem !== null && typeof problem === "object") return failure(problem, status, retryAfter);
  if (status === 404 || status === 405) return stranger(status);
  const message = `the server answered ${status} ${statusText}`.trim();
  return new HoptrailError("http_error", message, { retryAfter, status });
}

function failure({ type, message, fix, retry_after: told }, status, wait = null) {
  const retryAfter = told ?? wait;
  return new HoptrailError(`${type}`, `${message}`, { fix: fix ?? null, retryAfter, status });
}

function stranger(status) {
  return new HoptrailError("not_hoptrail", `what answered (${status}) is no Hoptrail server`, {
    fix: "createClient({ baseUrl }) with the address that `hoptrail serve` prints",
    status,
  });
}

function seconds(header) {
  if (!header) return null;
  const wait = /^\d+$/.test(header) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return Number.isFinite(wait) ? Math.max(wait, 0) : null;
}

// How long one exchange may take or be silent. Its signal also carries the caller's abort.
class Patience {
  #controller = new AbortController();
  #caller;
  #ms;
  #timer;
  #ranOut = false;
  #leave = () => this.#controller.abort(this.#caller.reason);

  constructor(caller, ms) {
    caller?.throwIfAborted();
    this.#caller = caller;
    this.#ms = ms;
    caller?.addEventListener("abort", this.#leave);
    this.renew();
  }

  get signal() {
    return this.#controller.signal;
  }

  renew() {
    clearTimeout(this.#timer);
    if (this.#ms === Infinity) return;
    this.#timer = setTimeout(() => {
      this.#ranOut = true;
      this.#controller.abort();
    }, this.#ms);
  }

  // Ends the exchange: what is still open of it is closed.
  end() {
    clearTimeout(this.#timer);
    this.#caller?.removeEventListener("abort", this.#leave);
    this.#controller.abort();
  }

  // Gives what `work` gives; a broken connection and spent patience become typed.
  async with(work) {
    try {
      return await work();
    } catch (cause) {
      this.#caller?.throwIfAborted();
      const why = this.#ranOut ? `nothing came for ${this.#ms} ms` : cause.message;
      throw new HoptrailError("unreachable", `the server cannot be reached: ${why}`, { cause });
    }
  }
}

// ---------------------------------------------------------------- questions

const ASK = "reasoning/multi-hop";

async function ask(server, question, options) {
  const { onEvent = () => {}, stream = true, runId = null, graph, signal } = options;
  const { idleMs = IDLE_MS, reconnects = RECONNECTS } = options;
  const body = { question: whole(question), stream, ...(graph && { graph }) };
  if (stream) {
    const run = new FollowedRun(server, runId, { onEvent, signal, idleMs, reconnects });
    return run.answer(body);
  }
  if (runId !== null) body.run_id = runId;
  return within(signal, Infinity, (patience) => server.json(ASK, patience, body));
}

// A run whose events are read from as many connections as it takes: each event once, in order.
//
// The server stops a run when the last who follow it have left. One that is to survive a broken
// connection is asked to stay, and is stopped by name when nobody wants it any more.
class FollowedRun {
  #server;
  #settings;
  #runId;
  #lasting;
  #isMine; // whether a run of this id, if there is one, was begun here
  #isFollowed = false; // whether the server has begun to tell of it
  #isOver = false;
  #last = null;
  #inVain = 0; // connections in a row that brought nothing new

  constructor(server, runId, settings) {
    this.#server = server;
    this.#settings = settings;
    this.#runId = runId ?? newRunId();
    this.#lasting = settings.reconnects > 0;
    this.#isMine = runId === null;
  }

  async answer(body) {
    const leave = () => this.#stop();
    globalThis.addEventListener?.("pagehide", leave);
    try {
      const begin = { ...body, run_id: this.#runId, detach: this.#lasting };
      let found = await this.#read(ASK, { body: begin });
      while (found === null) {
        const headers = this.#last === null ? {} : { "Last-Event-ID": this.#last.id };
        found = await this.#read(`runs/${encodeURIComponent(this.#runId)}/events`, { headers });
      }
      return found;
    } finally {
      globalThis.removeEventListener?.("pagehide", leave);
      this.#stop();
    }
  }

  // Gives the answer, or null when the connection was lost and another is worth a try.
  async #read(path, request) {
    const { signal, idleMs } = this.#settings;
    try {
      return await within(signal, idleMs, (patience) => this.#follow(path, request, patience));
    } catch (error) {
      // What was refused at once has no run that could be followed, or stopped.
      if (!this.#isFollowed && error instanceof HoptrailError) this.#isOver = error.status !== null;
      if (!this.#isFollowed || this.#isOver || !isLost(error)) throw error;
      await this.#pause(error);
      return null;
    }
  }

  async #follow(path, { body, headers }, patience) {
    const accept = { Accept: "text/event-stream", ...headers };
    const response = await this.#server.send(path, patience, { body, headers: accept });
    if (!response.headers.get("Content-Type")?.startsWith("text/event-stream")) throw stranger(200);
    this.#isFollowed = true;
    for await (const message of messages(response.body, patience)) {
      const event = eventOf(message);
      if (!this.#isNext(message.id, event)) continue;
      this.#inVain = 0;
      this.#settings.onEvent(event);
      if (ENDS.has(event.type)) {
        this.#isOver = true;
        return answerOf(event);
      }
    }
    throw new HoptrailError("connection_lost", "the connection ended before the run did");
  }

  // Ids are RUN:NUMBER while the run is told live, and RUN:tNUMBER when it is told again from
  // its trace: then the numbers are others, and only its end is sure to be news.
  #isNext(id, event) {
    const [, mark, digits] = /:([a-z]?)(\d+)$/.exec(id) ?? [];
    // An error may come without an id of its own: it then bears the one before it.
    if (digits === undefined || event.type === "RUN_ERROR") return true;
    const number = Number(digits);
    const { mark: before = mark, number: last = 0 } = this.#last ?? {};
    if (mark !== before) return ENDS.has(event.type);
    if (number > last + 1) {
      throw new HoptrailError("connection_lost", `event ${last + 1} of the run did not come`);
    }
    if (number === last + 1) this.#last = { id, mark, number };
    return number === last + 1;
  }

  async #pause(error) {
    const { reconnects, signal } = this.#settings;
    if (this.#inVain >= reconnects) {
      throw new HoptrailError("connection_lost", error.message, {
        fix: `ask again with runId "${this.#runId}": what is finished is not asked again`,
        cause: error,
      });
    }
    const wait = Math.min(FIRST_PAUSE_MS * 2 ** this.#inVain, LONGEST_PAUSE_MS);
    this.#inVain += 1;
    await paused(error.retryAfter === null ? wait : error.retryAfter * 1000, signal);
  }

  #stop() {
    if (this.#isOver || !this.#lasting || !(this.#isMine || this.#isFollowed)) return;
    this.#isOver = true;
    const path = `runs/${encodeURIComponent(this.#runId)}/cancel`;
    within(undefined, STOP_MS, (patience) =>
      this.#server.send(path, patience, { method: "POST", keepalive: true }),
    ).catch(() => {}); // there is nobody left to be told
  }
}

const ENDS = new Set(["RUN_FINISHED", "RUN_ERROR", "PLAN_PROPOSED"]);

function eventOf({ event, data }) {
  const found = jsonIn(data);
  if (found === null || typeof found !== "object") throw stranger(200);
  return event === "error" ? { type: "RUN_ERROR", ...found } : found;
}

function answerOf(event) {
  if (event.type === "RUN_ERROR") throw failure(event.error, null);
  if (event.type === "PLAN_PROPOSED") {
    throw new HoptrailError("plan_proposed", "the run waits for its plan to be approved");
  }
  if (event.status === "interrupted") {
    throw new HoptrailError("run_cancelled", "the run was stopped before its end");
  }
  return event.answer;
}

function isLost(error) {
  if (!(error instanceof HoptrailError)) return false;
  const { type, status } = error;
  return type === "connection_lost" || type === "unreachable" || status === 429 || status >= 500;
}

async function within(signal, ms, exchange) {
  const patience = new Patience(signal, ms);
  try {
    return await exchange(patience);
  } finally {
    patience.end();
  }
}

function paused(ms, signal) {
  return new Promise((resolve, reject) => {
    const leave = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", leave);
      resolve();
    }, ms);
    if (signal?.aborted) leave();
    signal?.addEventListener("abort", leave, { once: true });
  });
}

function newRunId() {
  const random = crypto.getRandomValues(new Uint8Array(12));
  return `web-${Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

// ---------------------------------------------------------------- server-sent events

async function* messages(body, patience) {
  const reader = body.getReader();
  const decoder = new TextDecoder(); // drops a byte order mark; holds back half a character
  const parser = new EventParser();
  try {
    for (;;) {
      const { value, done } = await patience.with(() => reader.read());
      if (done) return;
      patience.renew();
      yield* parser.take(decoder.decode(value, { stream: true }));
    }
  } finally {
    reader.cancel().catch(() => {}); // it may have broken already
  }
}

// Gives {event, data, id} for each event that is complete; what the stream ends in is dropped.
class EventParser {
  #line = "";
  #afterReturn = false; // a line feed that comes now ends no other line
  #event = "";
  #data = [];
  #id = "";

  *take(text) {
    const rest = this.#afterReturn && text.startsWith("\n") ? text.slice(1) : text;
    if (text !== "") this.#afterReturn = text.endsWith("\r");
    const lines = rest.split(/\r\n|\r|\n/);
    lines[0] = this.#line + lines[0];
    this.#line = lines.pop();
    for (const line of lines) {
      if (line !== "") this.#field(line);
      else if (this.#data.length > 0) yield this.#message();
      else this.#event = "";
    }
  }

  #field(line) {
    const [, name, value = ""] = /^([^:]*)(?:: ?(.*))?$/su.exec(line);
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#event = value;
    else if (name === "id" && !value.includes("\0")) this.#id = value;
  }

  #message() {
    const message = { event: this.#event, data: this.#data.join("\n"), id: this.#id };
    this.#event = "";
    this.#data = [];
    return message;
  }
}

// ---------------------------------------------------------------- embeddings

async function embedOne(server, text, options) {
  const { embeddings, ...rest } = await embed(server, [text], options, async (send) => {
    const { embedding, ...found } = await send("huggingface/embedding", { text: whole(text) });
    return { embeddings: [embedding], ...found };
  });
  return { embedding: embeddings[0], ...rest };
}

async function embedAll(server, texts, options) {
  if (!Array.isArray(texts)) throw new TypeError("texts is not an array");
  return embed(server, texts, options, (send) =>
    send("huggingface/embedding/batch", { texts: texts.map(whole) }),
  );
}

async function embed(server, texts, options, asked) {
  if (!texts.every((text) => typeof text === "string")) throw new TypeError("a text is no string");
  const { model, signal, timeoutMs = EMBEDDING_TIMEOUT_MS, fallback = !model } = options;
  try {
    return await within(signal, timeoutMs, async (patience) => {
      const send = (path, body) => server.json(path, patience, model ? { ...body, model } : body);
      return checked(await asked(send), texts.length);
    });
  } catch (error) {
    if (!fallback || !isAway(error)) throw error;
    return { embeddings: await hashedInTurn(texts, signal), ...HASHED, reason: error.message };
  }
}

// Away is also a server that has no embedder (503), and what answers but is no Hoptrail. A refusal
// of this very request (4xx) is not, nor is 429: the same vectors can be had a little later.
function isAway(error) {
  if (!(error instanceof HoptrailError)) return false;
  return error.status === null || error.status >= 500 || error.type === "not_hoptrail";
}

function checked(found, count) {
  const { embeddings, dimensions, model, backend, space, fallback } = found;
  const isVector = (row) =>
    Array.isArray(row) && row.length === dimensions && row.every(Number.isFinite);
  if (!Array.isArray(embeddings) || embeddings.length !== count || !embeddings.every(isVector))
    throw stranger(200);
  if (typeof space !== "string" || space === "") throw stranger(200);
  const isFallback = fallback === true;
  return { embeddings, dimensions, model, backend, space, fallback: isFallback, reason: null };
}

export function sameSpace(one, other) {
  return one.space === other.space && one.dimensions === other.dimensions;
}

export function cosine(one, other) {
  if (!sameSpace(one, other)) {
    throw new HoptrailError(
      "space_mismatch",
      `vectors of ${one.space} and ${other.space} must not be compared`,
      { fix: "embed both texts again, in one batch" },
    );
  }
  let dot = 0;
  let ones = 0;
  let others = 0;
  one.embedding.forEach((value, at) => {
    const across = other.embedding[at];
    dot += value * across;
    ones += value * value;
    others += across * across;
  });
  return dot / Math.sqrt(ones * others);
}

// Half of a surrogate pair that stands alone cannot be sent, nor hashed.
function whole(text) {
  return text.replace(/\p{Cs}/gu, "\ufffd");
}

// ---------------------------------------------------------------- hash embedding

// The same as hoptrail.embeddings.HashEmbedder, unfitted: words of weight 1, the 3-, 4- and
// 5-grams of <word> of weight 1/4, a bucket and a sign for each from its 64-bit BLAKE2b, values
// ln(1 + summed weight), length 1.
//
// No table of characters is needed: over all characters that Unicode 14 (Python 3.11) assigns,
// toLowerCase and [\p{L}\p{N}_] agree with Python's str.lower and \w, but for a capital sigma
// beside U+0295 or U+1171E, whose classes changed since. Letters that only one of the two sides'
// Unicode knows give other vectors.

const DIMENSIONS = 4096; // a power of two: the bucket is in the low bits
const SIGN = 1 << 28; // bit 60 of the hash is bit 28 of its upper half
const GRAM_LENGTHS = [3, 4, 5];
const GRAM_WEIGHT = 0.25;
const WORDS = /[\p{L}\p{N}_]+/gu;

export const HASH_SPACE = "hash:words-and-3-to-5-grams:0ef032697fba";

const HASHED = Object.freeze({
  dimensions: DIMENSIONS,
  model: "hash",
  backend: "hash",
  space: HASH_SPACE,
  fallback: true,
});

export function hashEmbedding(text) {
  return { embedding: hashed(text), ...HASHED, reason: "hashing was asked for" };
}

function hashed(text) {
  const row = new Float64Array(DIMENSIONS);
  for (const [feature, weight] of features(text)) {
    const { low, high } = blake2b64(feature);
    const value = Math.log1p(weight);
    row[low % DIMENSIONS] += high & SIGN ? value : -value;
  }
  const length = Math.sqrt(row.reduce((sum, value) => sum + value * value, 0));
  // The server's are 32-bit floats: rounded alike, the same text has the same vector.
  return Array.from(row, (value) => Math.fround(value / length));
}

// A long batch leaves the page its turns, and can be aborted.
async function hashedInTurn(texts, signal) {
  const rows = [];
  for (const text of texts) {
    if (rows.length > 0) await new Promise((resolve) => setTimeout(resolve));
    signal?.throwIfAborted();
    rows.push(hashed(text));
  }
  return rows;
}

function features(text) {
  const weights = new Map();
  const add = (feature, weight) => weights.set(feature, (weights.get(feature) ?? 0) + weight);
  for (const word of text.toLowerCase().match(WORDS) ?? [""]) {
    add(`w:${word}`, 1);
    const marked = ["<", ...word, ">"];
    for (const length of GRAM_LENGTHS) {
      for (let end = length; end <= marked.length; end++) {
        add(`c:${marked.slice(end - length, end).join("")}`, GRAM_WEIGHT);
      }
    }
  }
  return weights;
}

// BLAKE2b (RFC 7693) with a digest of 8 bytes. Each 64-bit word is two 32-bit ones, the lower
// first: that is many times faster than BigInt.

const BLOCK = 128;
const IV = Uint32Array.of(
  0xf3bcc908, 0x6a09e667, 0x84caa73b, 0xbb67ae85, 0xfe94f82b, 0x3c6ef372, 0x5f1d36f1, 0xa54ff53a,
  0xade682d1, 0x510e527f, 0x2b3e6c1f, 0x9b05688c, 0xfb41bd6b, 0x1f83d9ab, 0x137e2179, 0x5be0cd19,
);
const ROUNDS = [
  [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
  [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
  [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
  [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
  [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
  [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
  [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
  [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
  [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
  [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
];
const PARAMETERS = 0x01010008; // no key, fan-out 1, depth 1, 8 bytes of digest
const MIXED = [
  [0, 8, 16, 24], [2, 10, 18, 26], [4, 12, 20, 28], [6, 14, 22, 30],
  [0, 10, 20, 30], [2, 12, 22, 24], [4, 14, 16, 26], [6, 8, 18, 28],
];

const utf8 = new TextEncoder();
const work = new Uint32Array(32);
const block = new Uint32Array(32);

function blake2b64(text) {
  const bytes = utf8.encode(text);
  const state = Uint32Array.from(IV);
  state[0] ^= PARAMETERS;
  let start = 0;
  for (; start + BLOCK < bytes.length; start += BLOCK) {
    compress(state, bytes.subarray(start, start + BLOCK), start + BLOCK, false);
  }
  compress(state, bytes.subarray(start), bytes.length, true);
  return { low: state[0], high: state[1] };
}

function compress(state, bytes, counted, last) {
  block.fill(0);
  for (let at = 0; at < bytes.length; at++) block[at >> 2] |= bytes[at] << (8 * (at & 3));
  work.set(state);
  work.set(IV, 16);
  work[24] ^= counted;
  if (last) {
    work[28] = ~work[28];
    work[29] = ~work[29];
  }
  for (let round = 0; round < 12; round++) {
    const order = ROUNDS[round % 10];
    for (let at = 0; at < 8; at++) {
      mix(MIXED[at], 2 * order[2 * at], 2 * order[2 * at + 1]);
    }
  }
  for (let at = 0; at < 16; at++) state[at] ^= work[at] ^ work[at + 16];
}

function mix([a, b, c, d], x, y) {
  add(a, work[b], work[b + 1]);
  add(a, block[x], block[x + 1]);
  rotate(d, a, 32);
  add(c, work[d], work[d + 1]);
  rotate(b, c, 24);
  add(a, work[b], work[b + 1]);
  add(a, block[y], block[y + 1]);
  rotate(d, a, 16);
  add(c, work[d], work[d + 1]);
  rotate(b, c, 63);
}

function add(to, low, high) {
  const sum = work[to] + low;
  work[to] = sum;
  work[to + 1] += high + (sum > 0xffffffff ? 1 : 0);
}

// work[at] becomes (work[at] ^ work[other]) turned right by so many bits.
function rotate(at, other, bits) {
  const swap = bits & 32 ? 1 : 0;
  const low = work[at + swap] ^ work[other + swap];
  const high = work[at + 1 - swap] ^ work[other + 1 - swap];
  const by = bits & 31;
  work[at] = by ? (low >>> by) | (high << (32 - by)) : low;
  work[at + 1] = by ? (high >>> by) | (low << (32 - by)) : high;
}
