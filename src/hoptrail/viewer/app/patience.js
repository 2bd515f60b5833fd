// Waiting: for so long, until somebody looks, and not beyond an abort.
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 8000;

/** Gives how long to wait after so many requests in vain, or as the server said. */
const waitAfter = (misses, told) =>
  told === null ? Math.min(FIRST_WAIT_MS * 2 ** misses, LONGEST_WAIT_MS) : told * 1000;

/** Gives what `promise` gives, or raises the signal's reason as soon as it is aborted. */
function unlessAborted(promise, signal) {
  return new Promise((resolve, reject) => {
    const leave = () => reject(signal.reason);
    if (signal?.aborted) leave();
    signal?.addEventListener("abort", leave, { once: true });
    promise.then(resolve, reject).finally(() => signal?.removeEventListener("abort", leave));
  });
}

function pause(ms, signal) {
  let timer;
  const over = new Promise((resolve) => (timer = setTimeout(resolve, ms)));
  return unlessAborted(over, signal).finally(() => clearTimeout(timer));
}

/** Waits until somebody can see the page. */
function visible(signal) {
  if (!globalThis.document?.hidden) return Promise.resolve();
  const turned = new Promise((resolve) =>
    document.addEventListener("visibilitychange", resolve, { once: true, signal }),
  );
  return unlessAborted(turned, signal).then(() => visible(signal));
}
