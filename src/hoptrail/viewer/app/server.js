// The page's own server, asked with its token.
const TOKEN_KEY = "hoptrail-token";
const PATIENCE_MS = 30_000;

/** What came instead of an answer: as the server tells it, or `unreachable` with status 0. */
class Problem extends Error {
  constructor(told, status) {
    // Where in the body it stands says nothing to whoever filled in a form.
    const message = text(told?.message).replace(/^body(\.\w+)*: /, "");
    super(message || `the server answered ${status}`);
    this.type = text(told?.type) || "http_error";
    this.fix = text(told?.fix);
    this.retryAfter = Number.isFinite(told?.retry_after) ? told.retry_after : null;
    this.status = status;
  }

  /** Whether the same request may be answered a little later. */
  get passes() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

const unreachable = () =>
  new Problem({ type: "unreachable", message: "the server cannot be reached" }, 0);

/** The server at `base`; `onRefused` is told when a token is asked for, and when no longer. */
class OwnServer {
  #base;
  #token = kept(() => sessionStorage.getItem(TOKEN_KEY)) ?? "";
  #wanted = null;
  onRefused = () => {};

  constructor(base) {
    this.#base = base;
  }

  get hasToken() {
    return this.#token !== "";
  }

  /** Gives what is waited for: {problem, isWrong, give(token), leave()} or null. */
  get wanted() {
    return this.#wanted;
  }

  /**
   * Gives a response of success, or of a status in `also`; raises a Problem. While a token is
   * asked for it waits.
   */
  async send(path, { body, headers = {}, signal, also = [] } = {}) {
    for (;;) {
      const token = this.#token;
      const response = await this.#fetched(path, { body, headers, signal });
      if (response.ok || also.includes(response.status)) return response;
      const problem = await problemIn(response);
      if (response.status !== 401) throw problem;
      // Another request may have been given one while this one was under way.
      if (token === this.#token) await unlessAborted(this.#tokenAskedFor(problem), signal);
    }
  }

  async json(path, options = {}) {
    const response = await this.send(path, options);
    try {
      return await response.json();
    } catch {
      options.signal?.throwIfAborted();
      throw unreachable();
    }
  }

  post(path, body = {}) {
    return this.json(path, { body });
  }

  /** Gives {type, id, data} of each server-sent event; `after` is the id of the last one had. */
  async *events(path, { after = "", ...options } = {}) {
    const headers = { Accept: "text/event-stream", ...(after && { "Last-Event-ID": after }) };
    const response = await this.send(path, { ...options, headers });
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    const events = new EventReader();
    try {
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        yield* events.take(decoder.decode(value, { stream: true }));
      }
    } catch (error) {
      options.signal?.throwIfAborted();
      throw error instanceof TypeError ? unreachable() : error;
    } finally {
      reader.cancel().catch(() => {}); // it may have broken already
    }
  }

  /** Begins a run that goes on by itself; gives its id as soon as the run can be looked at. */
  async begin(path, body) {
    const asked = { body: { ...body, stream: true, detach: true } };
    for await (const { type, data } of this.events(path, asked)) {
      const event = JSON.parse(data);
      if (type === "error" || event.type === "RUN_ERROR") throw new Problem(event.error, 500);
      return text(event.run_id);
    }
    throw new Problem({ message: "the run ended before it began" }, 500);
  }

  async #fetched(path, { body, headers, signal }) {
    const request = { headers: { ...headers }, cache: "no-store" };
    if (this.#token) request.headers.Authorization = `Bearer ${this.#token}`;
    if (body !== undefined) {
      request.method = "POST";
      request.headers["Content-Type"] = "application/json";
      request.body = JSON.stringify(body);
    }
    const silence = new AbortController();
    const timer = setTimeout(() => silence.abort(), PATIENCE_MS);
    request.signal = AbortSignal.any([silence.signal, signal].filter(Boolean));
    try {
      return await fetch(new URL(path, this.#base), request);
    } catch {
      signal?.throwIfAborted();
      throw unreachable();
    } finally {
      clearTimeout(timer);
    }
  }

  #tokenAskedFor(problem) {
    if (this.#wanted) return this.#wanted.given;
    const wanted = { problem, isWrong: this.hasToken };
    wanted.given = new Promise((resolve, reject) => {
      wanted.give = (token) => this.#settled(token, resolve);
      wanted.leave = () => this.#settled("", () => reject(problem));
    });
    this.#wanted = wanted;
    this.onRefused();
    return wanted.given;
  }

  #settled(token, then) {
    this.#token = token;
    this.#wanted = null;
    kept(() => sessionStorage.setItem(TOKEN_KEY, token));
    this.onRefused();
    then();
  }
}

/** Gives what a browser's store has, or undefined where it forbids to keep anything. */
function kept(work) {
  try {
    return work();
  } catch {
    return undefined;
  }
}

async function problemIn(response) {
  const told = await response.json().catch(() => null);
  return new Problem(told?.error, response.status);
}
