// The embedding functions against servers that answer, refuse, babble, and are not there.

import assert from "node:assert/strict";
import { test } from "node:test";

import { json, loopback, problem } from "./loopback.mjs";

const { HASH_SPACE, HoptrailError, cosine, createClient, hashEmbedding, sameSpace } = await import(
  process.env.HOPTRAIL_JS
);
const SERVED = {
  dimensions: 2,
  model: "sentence-transformers/all-MiniLM-L6-v2",
  backend: "huggingface",
  space: "huggingface:minilm:0123",
  fallback: false,
};
const NOBODY = "http://127.0.0.1:9";

function clientOf(server) {
  return createClient({ baseUrl: server.url ?? server });
}

async function failing(promise) {
  return (await Promise.allSettled([promise]))[0].reason;
}

test("the server's vectors are given as they came, with where they are from", async (t) => {
  const server = await loopback(t, ({ url }, response) =>
    json(response, 200, url.endsWith("/batch")
      ? { embeddings: [[0, 1], [1, 0]], ...SERVED }
      : { embedding: [0.6, 0.8], ...SERVED }),
  );
  const client = clientOf(server);
  const one = await client.generateHuggingFaceEmbedding("a\udc00 text", { model: "its/model" });
  assert.deepEqual(one, { embedding: [0.6, 0.8], ...SERVED, reason: null });
  const both = await client.generateHuggingFaceEmbeddings(["one", "two"]);
  assert.deepEqual(both, { embeddings: [[0, 1], [1, 0]], ...SERVED, reason: null });
  assert.deepEqual(
    server.requests.map((request) => [request.method, request.url, request.json]),
    [
      ["POST", "/huggingface/embedding", { text: "a\ufffd text", model: "its/model" }],
      ["POST", "/huggingface/embedding/batch", { texts: ["one", "two"] }],
    ],
  );
});

const AWAY = {
  "has no embedder": (response) => json(response, 503, problem("all_backends_failed")),
  "has an error of its own": (response) => json(response, 500, problem("internal_server_error")),
  "is behind a proxy that cannot reach it": (response) => response.writeHead(502).end("<html>"),
  "is none, but a host of files": (response) => response.writeHead(404).end("<html>"),
  "is none, but a page for everything": (response) => response.writeHead(200).end("<html>"),
  "hangs up": (response) => response.destroy(),
  "breaks off": (response) => {
    response.writeHead(200, { "Content-Length": 100 }).write("{");
    setTimeout(() => response.destroy(), 20);
  },
  "says nothing": () => {},
  "sends too few vectors": (response) => json(response, 200, { embeddings: [[0, 1]], ...SERVED }),
  "sends vectors of another width": (response) =>
    json(response, 200, { embeddings: [[0, 1, 2], [0, 1, 2]], ...SERVED }),
  "sends what is no number": (response) =>
    json(response, 200, { embeddings: [[0, null], [0, 1]], ...SERVED }),
  "does not say the space": (response) =>
    json(response, 200, { embeddings: [[0, 1], [0, 1]], ...SERVED, space: undefined }),
};

for (const [how, answer] of Object.entries(AWAY)) {
  test(`a batch is hashed here, all of it, when the server ${how}`, async (t) => {
    const server = await loopback(t, (_request, response) => answer(response));
    const texts = ["The Vltava flows", "through Prague"];
    const asked = (options) =>
      clientOf(server).generateHuggingFaceEmbeddings(texts, { timeoutMs: 1000, ...options });
    const { embeddings, reason, ...from } = await asked();
    assert.deepEqual(embeddings, texts.map((text) => hashEmbedding(text).embedding));
    assert.deepEqual(from, {
      dimensions: 4096, model: "hash", backend: "hash", space: HASH_SPACE, fallback: true,
    });
    assert.equal(typeof reason, "string");
    assert.ok((await failing(asked({ fallback: false }))) instanceof HoptrailError);
  });
}

test("nobody there: one text is hashed here, unless a model was named", async () => {
  const client = clientOf(NOBODY);
  const found = await client.generateHuggingFaceEmbedding("ein Fluß");
  assert.deepEqual(found.embedding, hashEmbedding("ein Fluß").embedding);
  assert.equal(found.space, HASH_SPACE);
  const named = client.generateHuggingFaceEmbedding("ein Fluß", { model: "its/model" });
  assert.equal((await failing(named)).type, "unreachable");
  const still = { model: "its/model", fallback: true };
  assert.equal((await client.generateHuggingFaceEmbedding("ein Fluß", still)).space, HASH_SPACE);
});

for (const status of [400, 401, 403, 413, 422, 429]) {
  test(`a refusal with ${status} is an error, and no fallback`, async (t) => {
    const told = problem("refused", { fix: "another way", retry_after: 3 });
    const server = await loopback(t, (_request, response) => json(response, status, told));
    const error = await failing(clientOf(server).generateHuggingFaceEmbedding("text"));
    assert.ok(error instanceof HoptrailError);
    const { type, message, fix, retryAfter } = error;
    assert.deepEqual(
      { type, message, fix, retryAfter, status: error.status },
      { type: "refused", message: "because of refused", fix: "another way", retryAfter: 3, status },
    );
  });
}

test("an abort is an abort, and no fallback", async (t) => {
  const leaving = new AbortController();
  const server = await loopback(t, () => leaving.abort());
  const client = clientOf(server);
  const asked = client.generateHuggingFaceEmbedding("text", { signal: leaving.signal });
  assert.equal((await failing(asked)).name, "AbortError");
  const before = client.generateHuggingFaceEmbedding("text", { signal: leaving.signal });
  assert.equal((await failing(before)).name, "AbortError");
  assert.equal(server.requests.length, 1);
});

test("an abort ends the hashing of a batch", async () => {
  const leaving = new AbortController();
  const texts = Array(10_000).fill("The Vltava flows through Prague");
  const asked = clientOf(NOBODY).generateHuggingFaceEmbeddings(texts, { signal: leaving.signal });
  setTimeout(() => leaving.abort(), 100);
  assert.equal((await failing(asked)).name, "AbortError");
});

test("what is no text is not embedded", async () => {
  const client = clientOf(NOBODY);
  for (const wrong of [client.generateHuggingFaceEmbedding(7), client.generateHuggingFaceEmbeddings("x")]) {
    assert.ok((await failing(wrong)) instanceof TypeError);
  }
});

test("vectors of two spaces are not compared", () => {
  const hash = hashEmbedding("The Vltava flows through Prague");
  const near = hashEmbedding("The Vltava flows through Bohemia");
  const other = { embedding: hash.embedding, dimensions: 4096, space: "hash:fitted:0123" };
  assert.ok(Math.abs(cosine(hash, hash) - 1) < 1e-6);
  assert.ok(cosine(hash, near) > cosine(hash, hashEmbedding("A recipe for bread")));
  assert.equal(sameSpace(hash, near), true);
  assert.equal(sameSpace(hash, other), false);
  assert.throws(() => cosine(hash, other), { name: "HoptrailError", type: "space_mismatch" });
});
