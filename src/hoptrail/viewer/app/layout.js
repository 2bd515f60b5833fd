// Where the nodes and edges of a plan are drawn: downwards or to the right, as there is room.
const FACES = {
  full: {
    step: { width: 208, height: 74 }, pill: { width: 156, height: 34 }, between: 22, ranks: 32,
  },
  line: {
    step: { width: 190, height: 34 }, pill: { width: 148, height: 34 }, between: 12, ranks: 32,
  },
  number: {
    step: { width: 52, height: 28 }, pill: { width: 72, height: 28 }, between: 8, ranks: 17,
  },
};
const TALLEST = 620;
const READABLE_ZOOM = 0.75;
const MARGIN = 8;
const BOW = 34;

/** Gives the layout with the questions, if that can be read in this room, or with numbers only. */
function readableLayout(shape, room) {
  const full = bestLayout(shape, "full", room);
  const fits = Math.max(full.width / room, full.height / TALLEST) * READABLE_ZOOM <= 1;
  return fits ? full : bestLayout(shape, "number", room);
}

/** Gives the layout, downwards or to the right, that has to be made smaller the less. */
function bestLayout(shape, face, room) {
  const fits = (layout) => Math.min(1, room / layout.width, TALLEST / layout.height);
  const [down, right] = [laidOut(shape, face, true), laidOut(shape, face, false)];
  return fits(right) > fits(down) * 1.1 ? right : down;
}

/** Gives a shape with places: {width, height, nodes with x, y, edges with a path, down, face}. */
function laidOut(shape, face, down) {
  const size = FACES[face];
  const across = (node) => size[node.kind][down ? "width" : "height"];
  const layers = layersOf(shape, across, size.between);
  const places = placesIn(layers, size, down);
  const ranks = new Map(layers.flat().map((item) => [item.at, item.rank]));
  const edges = shape.edges.map((edge) => {
    const stops = stopsOf(edge, ranks).map((at) => places.get(at));
    return { ...edge, ...edgeWay(stops, down) };
  });
  const told = shape.told.map((edge) => {
    return { ...edge, ...asideWay(places.get(edge.from), places.get(edge.to), down) };
  });
  const nodes = shape.nodes.map((node) => ({ ...node, ...places.get(node.at) }));
  const end = (side, extent) =>
    MARGIN + Math.max(...nodes.map((node) => node[side] + node[extent] / 2));
  const [width, height] = [end("x", "width"), end("y", "height")];
  return { width, height, nodes, edges: [...edges, ...told], down, face };
}

/** Gives the middle and the size of each item, by its name. */
function placesIn(layers, size, down) {
  const first = Math.min(...layers.flat().map((item) => item.middle - item.size / 2));
  const places = new Map();
  let start = MARGIN;
  for (const layer of layers) {
    const sizes = layer.map((item) => (item.node ? size[item.node.kind] : null));
    const depths = sizes.map((each) => (each ? each[down ? "height" : "width"] : 0));
    const depth = Math.max(...depths);
    layer.forEach((item, at) => {
      const [across, along] = [item.middle - first + MARGIN, start + depth / 2];
      const [x, y] = down ? [across, along] : [along, across];
      const passing = down ? { width: 0, height: depth } : { width: depth, height: 0 };
      places.set(item.at, { x, y, ...(sizes[at] ?? passing) });
    });
    start += depth + size.ranks;
  }
  return places;
}

/** Gives a way {path, end, way} from one node to the next; `way` is how it arrives. */
function edgeWay(stops, down) {
  const [from, to] = [stops[0], stops.at(-1)];
  const enter = ({ x, y, width, height }) => (down ? [x, y - height / 2] : [x - width / 2, y]);
  const leave = ({ x, y, width, height }) => (down ? [x, y + height / 2] : [x + width / 2, y]);
  const [endX, endY] = enter(to);
  const end = down ? [endX, endY - 2] : [endX - 2, endY];
  const parts = stops.slice(1).map((stop, at) => {
    const isLast = at === stops.length - 2;
    const bent = curve(leave(stops[at]), isLast ? end : enter(stop), down);
    return isLast ? bent : `${bent}L${leave(stop).join(" ")}`;
  });
  return { path: `M${leave(from).join(" ")}${parts.join("")}`, end, way: down ? [0, 1] : [1, 0] };
}

function curve([fromX, fromY], [x, y], down) {
  const [midX, midY] = [(fromX + x) / 2, (fromY + y) / 2];
  const bent = down ? [fromX, midY, x, midY] : [midX, fromY, midX, y];
  return `C${[...bent, x, y].join(" ")}`;
}

/** Gives a way across the others: from the side of a node to the side of another. */
function asideWay(from, to, down) {
  const [place, size] = down ? ["x", "width"] : ["y", "height"];
  const apart = to[place] - from[place];
  if (Math.abs(apart) <= (from[size] + to[size]) / 2) return bowWay(from, to, down);
  const turn = Math.sign(apart);
  const start = from[place] + (turn * from[size]) / 2;
  const end = to[place] - turn * (to[size] / 2 + 2);
  const [one, other] = down ? [[start, from.y], [end, to.y]] : [[from.x, start], [to.x, end]];
  const path = `M${one.join(" ")}${curve(one, other, !down)}`;
  return { path, end: other, way: down ? [turn, 0] : [0, turn] };
}

/** A bow beside two nodes that stand in one line. */
function bowWay(from, to, down) {
  const side = (node) => (down ? node.x + node.width / 2 : node.y + node.height / 2);
  const out = BOW + Math.max(side(from), side(to));
  const start = down ? [side(from), from.y] : [from.x, side(from)];
  const end = down ? [side(to) + 2, to.y] : [to.x, side(to) + 2];
  const bent = down ? [out, start[1], out, end[1]] : [start[0], out, end[0], out];
  const path = `M${start.join(" ")}C${[...bent, ...end].join(" ")}`;
  return { path, end, way: down ? [-1, 0] : [0, -1] };
}
