// Does with the module what a Python test asks of it: JSON on stdin, JSON on stdout.

import { text } from "node:stream/consumers";

const module = await import(process.env.HOPTRAIL_JS);
const order = JSON.parse(await text(process.stdin));

const works = {
  // Each vector as its places that are not zero, and their values.
  hash: ({ texts }) =>
    texts.map((each) => {
      const { embedding, space } = module.hashEmbedding(each);
      const places = [...embedding.keys()].filter((place) => embedding[place] !== 0);
      return { space, places, values: places.map((place) => embedding[place]) };
    }),
  exports: () =>
    Object.entries(module).map(([name, { length }]) => [name, typeof module[name], length ?? 0]),
  embed: ({ client, texts }) =>
    module.createClient(client).generateHuggingFaceEmbeddings(texts),
  ask: async ({ client, question, options, abortAt }) => {
    const leaving = new AbortController();
    const events = [];
    const onEvent = (event) => {
      events.push(event);
      if (event.type === abortAt) leaving.abort();
    };
    const asked = module
      .createClient(client)
      .askMultiHop(question, { ...options, onEvent, signal: leaving.signal });
    const [{ value, reason }] = await Promise.allSettled([asked]);
    const error = reason && { name: reason.name, message: reason.message, ...reason };
    return { events, answer: value ?? null, error: error ?? null };
  },
};

process.stdout.write(JSON.stringify(await works[order.work](order)));
