// Price and volume around a gap: a small picture, the hole shaded.

const SVG = "http://www.w3.org/2000/svg";
const STRIP = { width: 600, height: 132, left: 58, right: 10, top: 10, price: 70, volume: 24, gap: 6 };

function svg(tag, props = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === "text") node.textContent = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

const strips = readTable(data.strips);
const points = readTable(data.strips.points);
const stripAt = new Map();
for (let i = 0, from = 0; i < strips.rows; i++) {
  stripAt.set(key(strips.symbol[i], strips.price_type[i], strips.interval[i]) + "\u0000" + strips.gap_start[i], { at: i, from, to: from + strips.points[i] });
  from += strips.points[i];
}

const stripOf = (symbol, priceType, interval, start) =>
  stripAt.get(key(symbol, priceType, interval) + "\u0000" + start) || null;

// Half of the usual distance between bars: how far the first and last bar reach.
function usualStep(seconds) {
  const steps = seconds.slice(1).map((s, i) => s - seconds[i]).filter((s) => s > 0).sort((a, b) => a - b);
  return steps.length ? steps[Math.floor(steps.length / 2)] : 60;
}

function drawStrip({ at, from, to }, zone, evidence) {
  const seconds = points.seconds.slice(from, to);
  const start = strips.gap_start[at];
  const hole = Math.max((strips.gap_end[at] - start) / 1000 || 0, 1);
  const step = usualStep(seconds);
  const low = Math.min(0, ...seconds);
  const high = Math.max(hole, ...seconds.map((s) => s + step));
  const { width, height, left, right, top, price, volume, gap } = STRIP;
  const x = (s) => left + ((s - low) / (high - low)) * (width - left - right);
  const floor = top + price + gap + volume;
  const priceY = (v) => top + (1 - v / data.strips.levels) * price;
  const name = seriesName(strips.symbol[at], strips.price_type[at], strips.interval[at]);
  const label = `${name}: close and volume around the gap from ${instant(start, zone)}, ${seconds.length} bars. ${evidence || ""}`;
  const picture = svg("svg", { class: "strip", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  picture.append(
    svg("rect", { class: "hole", x: x(0), y: top, width: Math.max(x(hole) - x(0), 2), height: floor - top }),
    ...[0, hole].map((s) => svg("line", { class: "edge", x1: x(s), x2: x(s), y1: top, y2: floor })),
    svg("line", { class: "axis", x1: left, x2: width - right, y1: floor, y2: floor }),
  );
  const bar = Math.max(x(low + step) - x(low) - 1, 1);
  const runs = [];
  seconds.forEach((s, i) => {
    const tall = (points.volume[from + i] / data.strips.levels) * volume;
    picture.append(svg("rect", { class: "volume", x: x(s), y: floor - tall, width: bar, height: tall }));
    if (points.price[from + i] === null) return;
    const place = `${(x(s) + bar / 2).toFixed(1)} ${priceY(points.price[from + i]).toFixed(1)}`;
    const follows = i > 0 && runs.length && s - seconds[i - 1] <= step * 1.5 && !(seconds[i - 1] < 0 && s >= hole);
    if (follows) runs.at(-1).push(place);
    else runs.push([place]);
  });
  for (const run of runs) {
    if (run.length > 1) picture.append(svg("path", { class: "price", d: "M" + run.join("L") }));
    else picture.append(svg("circle", { class: "dot", cx: run[0].split(" ")[0], cy: run[0].split(" ")[1], r: 1.8 }));
  }
  const text = (props, said) => picture.append(svg("text", { ...props, text: said }));
  text({ x: left - 6, y: top + 8, "text-anchor": "end" }, amount(strips.high[at]));
  text({ x: left - 6, y: top + price, "text-anchor": "end" }, amount(strips.low[at]));
  text({ x: left - 6, y: floor, "text-anchor": "end" }, strips.most[at] === null ? "" : "vol.");
  const times = [[low, "start"], [high, "end"]];
  if (x(0) - left > 130 && width - right - x(0) > 130) times.push([0, "middle"]);
  for (const [s, anchor] of times) text({ x: x(s), y: height - 6, "text-anchor": anchor }, instant(start + s * 1000, zone, s === low));
  return picture;
}
