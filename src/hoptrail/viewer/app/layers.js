// Layers of a graph: each node behind those that it follows, with few crossings and straight ways.
const SWEEPS = 4;

/**
 * Gives the layers of a plan, each a list of items {at, node, rank, size, middle, before, after}.
 * `middle` is where an item stands across the layer; `sizeOf` says how much room a node takes
 * there. A way that passes layers has an item without a node in each, shared by all to one node.
 */
function layersOf(shape, sizeOf, gap) {
  const ranks = ranksOf(shape);
  const items = new Map(shape.nodes.map((node) => [node.at, itemOf(node, ranks, sizeOf(node))]));
  for (const edge of shape.edges) {
    const stops = stopsOf(edge, ranks).map((at, step) => {
      if (!items.has(at)) items.set(at, passOf(at, ranks.get(edge.from) + step));
      return items.get(at);
    });
    stops.slice(1).forEach((item, at) => {
      item.before.add(stops[at]);
      stops[at].after.add(item);
    });
  }
  const layers = [];
  for (const item of items.values()) (layers[item.rank] ??= []).push(item);
  const full = layers.filter(Boolean);
  order(full);
  align(full, gap);
  return full;
}

const itemOf = (node, ranks, size) => ({
  at: node.at, node, rank: ranks.get(node.at), size, middle: 0, before: new Set(), after: new Set(),
});

const passOf = (at, rank) => ({
  at, node: null, rank, size: 0, middle: 0, before: new Set(), after: new Set(),
});

/** Gives the names of the items that an edge goes through, its ends among them. */
function stopsOf({ from, to }, ranks) {
  const between = Math.max(0, ranks.get(to) - ranks.get(from) - 1);
  const passes = Array.from({ length: between }, (_, at) => `${to} ${ranks.get(from) + at + 1}`);
  return [from, ...passes, to];
}

/** How many others each node follows at least; what goes round in a forged plan is cut. */
function ranksOf(shape) {
  const ranks = new Map();
  const into = new Map(shape.nodes.map((node) => [node.at, []]));
  shape.edges.forEach((edge) => into.get(edge.to).push(edge.from));
  const rankOf = (at) => {
    if (!ranks.has(at)) {
      ranks.set(at, 0);
      ranks.set(at, Math.max(-1, ...into.get(at).map(rankOf)) + 1);
    }
    return ranks.get(at);
  };
  shape.nodes.forEach((node) => rankOf(node.at));
  return ranks;
}

/** Puts each item of a layer near the middle of those it is joined to; equals stay in order. */
function order(layers) {
  const number = (layer) => layer.forEach((item, at) => (item.middle = at));
  const sort = (layer, side) => {
    const wanted = new Map(layer.map((item) => [item, middleOf(item[side]) ?? item.middle]));
    layer.sort((one, other) => wanted.get(one) - wanted.get(other));
    number(layer);
  };
  layers.forEach(number);
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    layers.forEach((layer) => sort(layer, "before"));
    if (sweep < SWEEPS - 1) layers.toReversed().forEach((layer) => sort(layer, "after"));
  }
}

function middleOf(items) {
  if (!items.size) return null;
  return [...items].reduce((sum, item) => sum + item.middle, 0) / items.size;
}

/** Moves the items of each layer beside those they are joined to, as far as there is room. */
function align(layers, gap) {
  const widest = layers.reduce((one, other) => (other.length > one.length ? other : one), []);
  const at = layers.indexOf(widest);
  const right = layers.slice(at);
  const left = layers.slice(0, at + 1).toReversed();
  spread(widest, gap, () => 0);
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    right.slice(1).forEach((layer) => spread(layer, gap, (item) => middleOf(item.before) ?? 0));
    left.slice(1).forEach((layer) => spread(layer, gap, (item) => middleOf(item.after) ?? 0));
  }
}

/** Puts items of a layer as near as can be to where each is wanted, in order and apart. */
function spread(layer, gap, wanted) {
  let room = 0;
  const offsets = layer.map((item, at) => {
    room += at ? (layer[at - 1].size + item.size) / 2 + gap : 0;
    return room;
  });
  const groups = [];
  layer.forEach((item, at) => {
    groups.push({ sum: wanted(item) - offsets[at], size: 1 });
    while (groups.length > 1 && meanOf(groups.at(-1)) < meanOf(groups.at(-2))) {
      const last = groups.pop();
      groups.at(-1).sum += last.sum;
      groups.at(-1).size += last.size;
    }
  });
  const means = groups.flatMap((group) => new Array(group.size).fill(meanOf(group)));
  layer.forEach((item, at) => (item.middle = means[at] + offsets[at]));
}

const meanOf = (group) => group.sum / group.size;
