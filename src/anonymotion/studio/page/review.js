// Step 5: look at a result, correct it, take it away.

import * as api from "./api.js";
import { $, clock, complain, el, later, notice, percent, sentence } from "./dom.js";
import { on, openClip, queuePolicy, store } from "./store.js";
import { plot } from "./plot.js";
import { runAgain } from "./run.js";
import { attempt, Scrubber, Stage } from "./stage.js";

const MOST_FRAMES = 200;
let stage;
let scrubber;
let job = null;
let report = null;
let mark = () => {};
let source = false;
let region = null;

export function setupReview() {
  stage = new Stage($("review-stage"), {
    label: "Frame of the result. Drag over it to mark a region that was missed.",
    layers: ["source"],
    pick: (kind, place) => regionDrawn(place.map(Math.round)),
    point: () => {},
    below: 500,
  });
  stage.tool = "hide";
  scrubber = new Scrubber($("review-scrub"), show);
  $("review-run").addEventListener("change", (event) => {
    location.hash = `#review/${event.target.value}`;
  });
  on("state", list);
  on("jobs", list);
}

const finished = () => store.state.jobs.filter((other) => other.state === "done");

function list() {
  const jobs = finished();
  $("review-work").hidden = !jobs.length;
  $("review-empty").hidden = jobs.length > 0;
  $("review-run").replaceChildren(...[...jobs].reverse().map((other) => el("option", { value: other.id, selected: other.id === job?.id }, other.name)));
}

/** Show a run; without an id the one that is shown, or else the last. */
export async function openReview(id) {
  const jobs = finished();
  const wanted = jobs.find((other) => other.id === id) || jobs.find((other) => other.id === job?.id) || jobs[jobs.length - 1];
  if (!wanted || (wanted.id === job?.id && report)) return;
  await attempt(null, async () => {
    job = wanted;
    report = await api.json("GET", `api/jobs/${job.id}/report`);
    const clip = await api.json("GET", `api/videos/${job.clip}`);
    list();
    region = null;
    stage.setSize(clip.width, clip.height, clip.pixel_aspect);
    stage.showRegions([]);
    $("download").href = `api/jobs/${job.id}/video`;
    $("download").setAttribute("download", job.name);
    $("download-report").href = `api/jobs/${job.id}/report.html`;
    $("download-json").href = `api/jobs/${job.id}/report.json`;
    mark = plot($("plot"), report, (frame) => scrubber.set(frame, false));
    frames();
    facts();
    selfTest();
    fix();
    const first = report.frames_to_review[0];
    scrubber.setup(report.frames, clip.duration_seconds, first ? first.frame : 0);
  });
}

let drafting = false;
async function show(frame, dragging) {
  if (!job || !report) return;
  mark(Math.min(frame, report.over_time.time_seconds.length - 1));
  for (const button of $("frames").querySelectorAll("button")) {
    if (Number(button.dataset.frame) === frame) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }
  if (dragging && drafting) return;
  drafting = dragging;
  await attempt(stage, async () => {
    await stage.show("frame", `api/jobs/${job.id}/frames/${frame}${dragging ? "?draft=true" : ""}`);
    stage.node.dataset.frame = frame;
    stage.say("");
    await compare();
  });
  drafting = false;
  if (scrubber.frame !== frame) show(scrubber.frame, dragging);
}

async function compare() {
  await stage.show("source", source ? `api/videos/${job.clip}/frames/${scrubber.frame}` : null);
  if (source) stage.say("The input: private");
}

function frames() {
  const found = report.frames_to_review;
  $("frames-hint").textContent = found.length
    ? `${found.length} of ${report.frames} frames are doubtful. Look at the others as well.${found.length > MOST_FRAMES ? ` The first ${MOST_FRAMES}:` : ""}`
    : "None stands out. Look at the whole result nevertheless.";
  $("frames").replaceChildren(...found.slice(0, MOST_FRAMES).map((entry) => {
    const button = el("button", { type: "button", onclick: () => scrubber.set(entry.frame, false) },
      `Frame ${entry.frame} · ${clock(entry.time_seconds)}`, el("small", {}, ...entry.reasons.map((reason) => el("span", {}, sentence(reason), " "))));
    button.dataset.frame = entry.frame;
    return el("li", {}, button);
  }));
}

function facts() {
  const { coverage } = report;
  const rows = [
    ["Hidden", `${report.attributes.join(", ") || "regions"}: ${percent(coverage.hidden_share_mean)} of the picture, at most ${percent(coverage.hidden_share_max)}`],
    ["Without a match", `${coverage.frames_without_match} of ${report.frames} frames`],
    ["Audio", report.audio],
    ["SHA-256", report.output.sha256],
    ...report.notes.map((note) => ["Note", note]),
    ...report.not_for_release.map((reason) => ["Not for release", reason]),
  ];
  $("facts").replaceChildren(...rows.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

/** Scores of attacks on the result, where the run's report has them. */
function selfTest() {
  const scores = report.self_test;
  $("self-test-card").hidden = !scores;
  if (!scores) return;
  const rows = Object.entries(scores).map(([name, value]) => [el("dt", {}, name.replaceAll("_", " ")), el("dd", {}, typeof value === "object" ? JSON.stringify(value) : String(value))]);
  $("self-test").replaceChildren(el("dl", {}, ...rows.flat()));
}

// -------------------------------------------------------------------- corrections

function fix() {
  const start = el("input", { type: "text", id: "fix-start", autocomplete: "off" });
  const end = el("input", { type: "text", id: "fix-end", autocomplete: "off" });
  const field = (id, text, input) => el("div", { class: "field" }, el("label", { for: id }, text), input);
  const input = el("input", { type: "checkbox", id: "fix-source", checked: source, onchange: () => {
    source = input.checked;
    show(scrubber.frame, false);
  } });
  $("fix").replaceChildren(
    el("label", { class: "check" }, input, "Show the input here"),
    el("p", { class: "hint", id: "fix-hint" }, "Drag over the picture to mark what was missed."),
    el("div", { id: "fix-form", hidden: true },
      el("div", { class: "times" }, field("fix-start", "From (mm:ss)", start), field("fix-end", "To", end)),
      el("p", { class: "buttons" }, el("button", { type: "button", class: "primary", onclick: () => addRegion(start.value, end.value) }, "Hide this region"),
        el("button", { type: "button", onclick: discard }, "Discard"))),
    el("p", { class: "buttons" },
      el("button", { type: "button", id: "fix-template", onclick: toTemplate }, "Add a template in this frame"),
      el("button", { type: "button", id: "again", onclick: again }, "Run again")),
    el("p", { class: "hint" }, "A run after a correction uses the features that are there."),
  );
}

function regionDrawn(box) {
  region = box;
  const [x0, y0, x1, y1] = box;
  stage.showRegions([{ kind: "hide", points: [[x0, y0], [x1, y0], [x1, y1], [x0, y1]] }]);
  const times = report.over_time.time_seconds;
  const here = times[scrubber.frame] - times[0];
  $("fix-start").value = clock(Math.max(0, here - 0.5));
  $("fix-end").value = clock(here + 0.5);
  $("fix-form").hidden = false;
  $("fix-hint").textContent = `Region ${box.join(", ")}: hidden whatever matches, in this time.`;
}

function discard() {
  region = null;
  stage.showRegions([]);
  $("fix-form").hidden = true;
  $("fix-hint").textContent = "Drag over the picture to mark what was missed.";
}

async function addRegion(start, end) {
  const before = store.state.policy.revision;
  await queuePolicy((body) => body.include.push(`${region.join(",")}@${start.trim()}-${end.trim()}`));
  if (store.state.policy.revision === before) return;
  discard();
  notice("The region is hidden in the next run.");
}

const toTemplate = later(async () => {
  try {
    await openClip(job.clip, scrubber.frame);
    location.hash = "#choose";
    document.querySelector('input[name="tool"][value="point"]').click();
  } catch (error) {
    complain(error);
  }
}, 0);

async function again() {
  try {
    await runAgain(job.clip, job.result.audio === "drop" ? "drop" : "copy");
    location.hash = "#run";
  } catch (error) {
    complain(error);
  }
}
