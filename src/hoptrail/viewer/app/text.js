// Values as a person reads them. Everything shown is text: nothing here gives markup.
const { h, html, render, useState, useEffect, useMemo, useRef, useCallback } = htmPreact;

/** Any value of a trace as text; what is no text (a forged trace may hold anything) is told as JSON. */
const text = (value) => (typeof value === "string" ? value : value == null ? "" : JSON.stringify(value) ?? "");

/** `8 ms`, `2.4 s`, `3 min 05 s`. */
function duration(ms) {
  if (!Number.isFinite(ms)) return "";
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  if (ms < 59950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)} min ${String(seconds % 60).padStart(2, "0")} s`;
}

/** `1 passage`, `5 passages`. */
const amount = (number, noun) => `${Number(number).toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

/** `ollama:qwen3:8b`. */
const modelName = (backend, model) => (model && model !== backend ? `${text(backend)}:${text(model)}` : text(backend));

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
