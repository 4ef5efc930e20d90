// Coverage over time as a plot; a click goes to the frame.

import { el } from "./dom.js";
import { svg } from "./stage.js";

const [WIDTH, HEIGHT, LEFT, BOTTOM] = [860, 200, 44, 24];
const POINTS = 400;
// told apart also by people who do not see red and green (Okabe and Ito)
const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8b6f00", "#7a5195", "#666666"];

/** report: as of `anonymotion hide --report`; chosen: is told a frame. */
export function plot(place, report, chosen) {
  const { time_seconds: times, hidden_share: hidden, attribute_share: attributes } = report.over_time;
  const curves = [["hidden in all", hidden], ...Object.entries(attributes)];
  const top = Math.max(0.01, ...curves.map(([, values]) => values.reduce((most, value) => Math.max(most, value), 0)));
  const span = Math.max(times[times.length - 1] - times[0], 1e-9);
  const [right, base] = [WIDTH - 8, HEIGHT - BOTTOM];
  const x = (frame) => LEFT + ((times[frame] - times[0]) / span) * (right - LEFT);
  const y = (share) => base - (share / top) * (base - 10);
  const most = `${(100 * top).toFixed(0)} %`;
  const box = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `Share of the picture that was hidden, over ${span.toFixed(1)} seconds; at most ${most}` });
  for (const share of [0, 0.5, 1]) {
    box.append(svg("line", { x1: LEFT, x2: right, y1: y(top * share), y2: y(top * share), stroke: "currentColor", opacity: 0.2 }));
    const text = svg("text", { x: LEFT - 6, y: y(top * share) + 4, "text-anchor": "end" });
    text.textContent = `${(100 * top * share).toFixed(0)}%`;
    box.append(text);
  }
  for (const [at, anchor, frame] of [[LEFT, "start", 0], [right, "end", times.length - 1]]) {
    const text = svg("text", { x: at, y: HEIGHT - 6, "text-anchor": anchor });
    text.textContent = `${times[frame].toFixed(1)} s`;
    box.append(text);
  }
  const legend = el("p", { class: "legend" });
  curves.forEach(([name, values], number) => {
    const colour = number ? COLOURS[(number - 1) % COLOURS.length] : "currentColor";
    const points = worthDrawing(values).map((frame) => `${x(frame).toFixed(1)},${y(values[frame]).toFixed(1)}`).join(" ");
    box.append(svg("polyline", { points, fill: "none", stroke: colour, "stroke-width": number ? 1.3 : 2.2 }));
    const swatch = el("i");
    swatch.style.background = number ? colour : "var(--text)";
    legend.append(el("span", {}, swatch, name));
  });
  for (const { frame } of report.frames_to_review) {
    box.append(svg("line", { x1: x(frame), x2: x(frame), y1: base, y2: base - 8, stroke: "#d55e00", "stroke-width": 1.5 }));
  }
  const swatch = el("i");
  swatch.style.background = "#d55e00";
  legend.append(el("span", {}, swatch, "look at these"));
  const here = svg("line", { x1: LEFT, x2: LEFT, y1: 6, y2: base, stroke: "currentColor", "stroke-dasharray": "3 3" });
  box.append(here);
  box.addEventListener("click", (event) => {
    const bounds = box.getBoundingClientRect();
    const wanted = times[0] + ((((event.clientX - bounds.left) / bounds.width) * WIDTH - LEFT) / (right - LEFT)) * span;
    let best = 0;
    times.forEach((time, frame) => {
      if (Math.abs(time - wanted) < Math.abs(times[best] - wanted)) best = frame;
    });
    chosen(best);
  });
  place.replaceChildren(box, legend);
  return (frame) => {
    here.setAttribute("x1", x(frame));
    here.setAttribute("x2", x(frame));
  };
}

/** Of each stretch the lowest and the highest, so that no drop-out is lost. */
function worthDrawing(values) {
  if (values.length <= POINTS) return values.map((_, frame) => frame);
  const frames = new Set();
  const stretch = (2 * values.length) / POINTS;
  for (let part = 0; part < POINTS / 2; part += 1) {
    let low = Math.round(part * stretch);
    let high = low;
    for (let frame = low; frame < Math.min(Math.round((part + 1) * stretch), values.length); frame += 1) {
      if (values[frame] < values[low]) low = frame;
      if (values[frame] > values[high]) high = frame;
    }
    frames.add(low).add(high);
  }
  return [...frames].sort((first, second) => first - second);
}
