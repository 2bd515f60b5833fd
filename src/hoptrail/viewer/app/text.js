// Values as a person reads them. Everything shown is text: nothing here gives markup.
const { h, html, render, useState, useEffect, useMemo, useRef, useCallback } = htmPreact;

/** Any value of a trace as text; what is no text (a forged trace may hold anything) as JSON. */
function text(value) {
  if (typeof value === "string") return value;
  return value == null ? "" : JSON.stringify(value) ?? "";
}

/** A text of a trace inside a line of ours: its direction of writing stays its own. */
const said = (value) => html`<bdi>${text(value)}</bdi>`;

/** `8 ms`, `2.4 s`, `3 min 05 s`. */
function duration(ms) {
  if (!Number.isFinite(ms)) return "";
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  if (ms < 59950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)} min ${String(seconds % 60).padStart(2, "0")} s`;
}

/** `2,310`. */
const grouped = (number) => Number(number).toLocaleString("en");

/** `1 passage`, `5 passages`. */
const amount = (number, noun) => `${grouped(number)} ${noun}${number === 1 ? "" : "s"}`;

/** `ollama:qwen3:8b`. */
const modelName = (backend, model) =>
  model && model !== backend ? `${text(backend)}:${text(model)}` : text(backend);

/** An address that may be followed from here, or null: only http and https, never a script. */
function safeAddress(source) {
  if (!/^https?:\/\//i.test(text(source))) return null;
  try {
    const url = new URL(text(source));
    return url.protocol === "http:" || url.protocol === "https:" ? url.href : null;
  } catch {
    return null;
  }
}

const STOP_REASONS = new Map([
  ["answered", "the question was answered"],
  ["no_evidence", "the documents hold no answer"],
  ["error", "an error ended it"],
  ["interrupted", "it was stopped before its end"],
  ["budget:steps", "the budget of steps was spent"],
  ["budget:llm_calls", "the budget of model calls was spent"],
  ["budget:tokens", "the budget of tokens was spent"],
  ["budget:deadline", "the deadline passed"],
]);

/** Why a run ended, in words; a reason that is not known stands as it is. */
const stopReason = (reason) => STOP_REASONS.get(reason) ?? text(reason);
