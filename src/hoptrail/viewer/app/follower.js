// A run that goes on, as its server tells it.
const TICK_MS = 250; // four pictures of a run a second at most, two at least
const ELSEWHERE_MS = 1000;
const WRITING_MS = 80;

/**
 * Follows a run until its end, over lost connections, and not while nobody looks at the page.
 *
 * `hear` has onTrace(trace), onText(answer so far), onState("live", "elsewhere", "lost" or
 * "ended") and onProblem(problem), after which nothing more comes.
 */
class Follower {
  #server;
  #path;
  #hear;
  #leaving = new AbortController();
  #news = false;
  #trace = null;
  #etag = "";
  #lastId = "";
  #answer = "";
  #writing = null;

  constructor(server, runId, hear) {
    this.#server = server;
    this.#path = `runs/${encodeURIComponent(runId)}`;
    this.#hear = hear;
  }

  stop() {
    this.#leaving.abort();
    clearTimeout(this.#writing);
  }

  async start() {
    const { signal } = this.#leaving;
    for (let misses = 0; !signal.aborted; ) {
      try {
        await visible(signal);
        if (await this.#stage(signal, () => (misses = 0))) return;
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof Problem && error.passes)) return void this.#hear.onProblem(error);
        this.#hear.onState("lost");
        await pause(waitAfter(misses++, error.retryAfter), signal).catch(() => {});
      }
    }
  }

  // Gives whether the run is over.
  async #stage(signal, onAnswer) {
    const row = await this.#server.json(this.#path, { signal });
    const goes = row.status === "running";
    await this.#look(signal, goes || this.#trace !== null);
    onAnswer();
    // The record of a process that was killed does not know of its end.
    if (!goes && this.#trace?.status === "running")
      this.#show({ ...this.#trace, status: row.status });
    this.#hear.onState(goes ? (row.live ? "live" : "elsewhere") : "ended");
    if (goes) await (row.live ? this.#listen() : pause(ELSEWHERE_MS, signal));
    return !goes;
  }

  async #listen() {
    const over = new AbortController();
    const signal = AbortSignal.any([this.#leaving.signal, over.signal]);
    const leave = () => document.hidden && over.abort();
    globalThis.document?.addEventListener("visibilitychange", leave);
    try {
      await Promise.race([this.#read(signal), this.#draw(signal)]);
      await pause(TICK_MS, signal); // a stream may end before its run does
    } catch (error) {
      if (!over.signal.aborted) throw error;
    } finally {
      over.abort();
      globalThis.document?.removeEventListener("visibilitychange", leave);
    }
  }

  async #read(signal) {
    try {
      const from = { after: this.#lastId, signal };
      for await (const { id, data } of this.#server.events(`${this.#path}/events`, from)) {
        this.#lastId = id;
        this.#take(JSON.parse(data));
      }
    } catch (error) {
      if (!(error instanceof Problem && error.status === 404 && this.#lastId)) throw error;
      this.#lastId = this.#answer = ""; // another server tells the run from its beginning
    }
  }

  #take(event) {
    this.#news = true;
    if (event.type === "TEXT_MESSAGE_CONTENT") this.#answer += text(event.delta);
    else if (event.type === "TEXT_MESSAGE_RESTARTED") this.#answer = "";
    else return;
    this.#writing ??= setTimeout(() => {
      this.#writing = null;
      this.#hear.onText(this.#answer);
    }, WRITING_MS);
  }

  async #draw(signal) {
    for (let tick = 0; ; tick++) {
      await pause(TICK_MS, signal);
      if (!this.#news && tick % 2 === 0) continue;
      this.#news = false;
      await this.#look(signal, true);
    }
  }

  #show(trace) {
    this.#trace = trace;
    this.#hear.onTrace(trace);
  }

  async #look(signal, mayBeMissing) {
    const headers = this.#etag ? { "If-None-Match": this.#etag } : {};
    try {
      const request = { headers, signal, also: [304] };
      const response = await this.#server.send(`${this.#path}/trace.json`, request);
      if (response.status === 304) return;
      const trace = await response.json();
      this.#etag = response.headers.get("ETag") ?? "";
      this.#show(trace);
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof Problem && error.status === 404 && mayBeMissing) return;
      throw error instanceof Problem ? error : unreachable();
    }
  }
}
