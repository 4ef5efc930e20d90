// Step 2 and 3: choose by clicking, and see what it does. The stage and its layers; the panel is panel.js.

import * as api from "./api.js";
import { $, complain, el, later, percent, sentence } from "./dom.js";
import { on, policy, queuePolicy, store } from "./store.js";
import { attempt, Scrubber, Stage } from "./stage.js";
import { setupTemplates, showCandidate } from "./templates.js";

const TOOLS = [
  ["look", "Look", "Say why a pixel is hidden"],
  ["point", "Mark", "A click or a dragged box makes a template"],
  ["hide", "Always hide", "Drag a region that is always hidden"],
  ["spare", "Never hide", "Drag a region that is never hidden"],
];
const LAYERS = [
  ["heat", "Heat map", true],
  ["outline", "Outline", true],
  ["noise", "Noise", false],
  ["flow", "Flow", false],
  ["result", "Before / after", false],
];

export const view = { heat: null, candidate: null, shown: new Set(LAYERS.filter((l) => l[2]).map((l) => l[0])), exact: false };
let stage;
let scrubber;
let wipe;

export function setupChoose() {
  stage = new Stage($("choose-stage"), {
    label: "Frame of the video. Point at it to see why a pixel is hidden, or mark it.",
    layers: ["flow", "result", "noise", "heat", "outline"],
    pick: picked,
    point: (place) => pointed(place),
  });
  scrubber = new Scrubber($("choose-scrub"), (frame, dragging) => {
    store.frame = frame;
    showFrame(dragging);
  });
  tools();
  layers();
  setupTemplates(() => view, refresh, setTool);
  on("clip", opened);
  on("policy", () => {
    regions();
    refresh();
  });
  on("library", refresh);
}

function tools() {
  const box = el("div");
  for (const [name, text, title] of TOOLS) {
    const input = el("input", { type: "radio", name: "tool", value: name, checked: name === "look", onchange: () => setTool(name) });
    box.append(el("label", { title }, input, text));
  }
  $("tools").append(box);
}

function setTool(name) {
  stage.tool = name;
  document.querySelector(`input[name="tool"][value="${name}"]`).checked = true;
}

function layers() {
  const box = el("div");
  for (const [name, text, on_] of LAYERS) {
    const input = el("input", { type: "checkbox", checked: on_, onchange: () => {
      if (input.checked) view.shown.add(name);
      else view.shown.delete(name);
      refresh();
    } });
    input.dataset.layer = name;
    box.append(el("label", { class: "check" }, input, text));
  }
  const exact = el("input", { type: "checkbox", id: "exact", onchange: () => {
    view.exact = exact.checked;
    refresh();
  } });
  box.append(el("label", { class: "check", title: "Slower: what is found in the frames around is hidden here, too" }, exact, "With neighbours, as a run"));
  wipe = el("input", { type: "range", id: "wipe", min: 0, max: 1, step: 0.01, value: 0.5, oninput: () => stage.wipe("result", Number(wipe.value)) });
  box.append(el("div", { class: "wipe", hidden: true }, el("label", { for: "wipe" }, "Before / after"), wipe));
  $("layers").append(box);
}

function opened() {
  const { clip } = store;
  $("choose-work").hidden = !clip;
  $("choose-empty").hidden = Boolean(clip);
  $("choose-clip").textContent = clip ? clip.name : "";
  if (!clip) return;
  stage.setSize(clip.width, clip.height, clip.pixel_aspect);
  view.candidate = null;
  showCandidate(null);
  scrubber.setup(clip.frames, clip.duration_seconds, store.frame);
  regions();
}

const base = () => `api/videos/${store.clip.id}/frames/${store.frame}`;
const settled = later(() => refresh(), 120);
let drafting = false;
let again = false;

/** While the hand is on the slider: quick small pictures, one at a time; then the frame itself and its layers. */
async function showFrame(dragging) {
  if (!store.clip) return;
  if (!dragging) {
    for (const [name] of LAYERS) stage.show(name, null);
    await attempt(stage, () => stage.show("frame", base()));
    stage.node.dataset.frame = store.frame;
    settled();
    return;
  }
  for (const [name] of LAYERS) stage.show(name, null);
  again = drafting;
  if (drafting) return;
  drafting = true;
  await attempt(stage, () => stage.show("frame", `${base()}?draft=true`));
  drafting = false;
  if (again) showFrame(true);
}

function regions() {
  if (!store.clip) return;
  const { width, height } = store.clip;
  const pixels = (shape) => shape.points.map(([x, y]) => (shape.unit === "percent" ? [(x * width) / 100, (y * height) / 100] : [x, y]));
  const shapes = [
    ...policy().include.map((shape) => ({ points: pixels(shape), kind: "hide" })),
    ...policy().exclude.map((shape) => ({ points: pixels(shape), kind: "spare" })),
  ];
  const { candidate } = view;
  if (candidate && candidate.clip === store.clip.id && candidate.frame === store.frame) {
    const [x0, y0, x1, y1] = candidate.box || [];
    shapes.push({ kind: "mark", points: candidate.point ? [candidate.point] : [[x0, y0], [x1, y0], [x1, y1], [x0, y1]] });
  }
  stage.showRegions(shapes);
}

/** Fetch every layer that is to be seen of this frame. */
export async function refresh() {
  if (!store.clip || $("view-choose").hidden) return;
  regions();
  const chosen = policy().asked.length > 0 || policy().regions;
  const see = (name) => view.shown.has(name) && (chosen || name === "flow");
  stage.wipe("result", see("result") ? Number(wipe.value) : null);
  wipe.parentElement.hidden = !see("result");
  const busy = setTimeout(() => stage.say(view.exact ? "Looking at this frame and its neighbours …" : "Looking at this frame …"), 250);
  try {
    await heat();
    for (const name of ["outline", "result", "noise", "flow"]) await layer(name, chosen && see(name));
    stage.say("");
  } catch (error) {
    if (error.name !== "AbortError") stage.say(sentence(error.message), true);
  } finally {
    clearTimeout(busy);
  }
  stage.node.dataset.settled = `${store.frame}:${policy().revision}`;
}

async function heat() {
  const candidate = view.candidate;
  const names = policy().asked;
  const name = names.includes(view.heat) ? view.heat : names[0];
  const path = candidate ? `${base()}/similar/${candidate.id}` : name && view.shown.has("heat") ? `${base()}/heat/${name}` : null;
  const headers = await stage.show("heat", path && `${path}?${api.turn("heat")}`);
  const text = headers ? `${candidate ? "This place" : name}: at most ${Number(headers.get("x-strongest")).toFixed(2)}, ${percent(Number(headers.get("x-share")))} of the frame` : "";
  stage.images.get("heat").alt = headers ? `Heat map. ${text}` : "";
  if (headers) stage.node.dataset.heat = candidate ? candidate.id : name;
  if (headers && candidate) $("candidate-map").textContent = `${percent(Number(headers.get("x-share")))} of this frame is like it by ${headers.get("x-threshold")} or more.`;
}

async function layer(name, wanted) {
  const exact = view.exact ? "&exact=true" : "";
  await stage.show(name, wanted ? `${base()}/layers/${name}?${api.turn(name)}${exact}` : null, { opacity: name === "flow" ? 0.85 : 1 });
}

// -------------------------------------------------------------------- what a click does

async function picked(kind, place) {
  const rounded = place.map((number) => Math.round(number * 10) / 10);
  if (stage.tool === "hide" || stage.tool === "spare") {
    const key = stage.tool === "hide" ? "include" : "exclude";
    await queuePolicy((body) => body[key].push(rounded.map((number) => Math.round(number)).join(",")));
    return;
  }
  const started = performance.now();
  await attempt(null, async () => {
    stage.say("Looking …");
    const body = kind === "point" ? { point: rounded } : { box: rounded };
    view.candidate = await api.json("POST", `${base()}/candidates`, { ...body, attribute: view.heat || policy().asked[0] || "hair" });
    showCandidate(view.candidate);
    regions();
    await heat();
    stage.node.dataset.clickToMap = Math.round(performance.now() - started);
  });
  stage.say("");
}

let pointing = 0;
async function pointed([x, y]) {
  if (!store.clip) return;
  const mine = ++pointing;
  try {
    const found = await api.json("GET", `${base()}/pixel?x=${x.toFixed(1)}&y=${y.toFixed(1)}`);
    if (mine === pointing) showPixel(found);
  } catch (error) {
    complain(error);
  }
}

function showPixel(found) {
  const states = { hidden: "Hidden", partly: "Partly hidden", visible: "Visible" };
  const rows = found.findings.slice(0, 5).map((finding) => {
    const template = `${finding.own ? "your own" : finding.picture}, alone ${finding.similarity.toFixed(2)}`;
    return el("tr", { class: finding.saliency >= finding.threshold ? "reached" : "" },
      el("td", {}, finding.attribute), el("td", {}, finding.saliency.toFixed(2)), el("td", {}, finding.threshold.toFixed(2)),
      el("td", {}, template));
  });
  const head = el("tr", {}, ...["Attribute", "Match", "Threshold", "Best template"].map((text) => el("th", { scope: "col" }, text)));
  $("pixel").replaceChildren(
    el("p", {}, el("span", { class: "verdict" }, `${states[found.state]}. `), `${found.why} `,
      el("span", { class: "hint" }, `(${found.x}, ${found.y}${found.findings.length && !found.exact ? "; this frame by itself" : ""})`)),
    rows.length ? el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows)) : "",
  );
}
