// Step 4: the queue.

import * as api from "./api.js";
import { $, complain, duration, el, percent, sentence } from "./dom.js";
import { on, policy, store, tell } from "./store.js";

const STATES = { waiting: "Waiting", running: "Running", done: "Done", failed: "Failed", stopped: "Stopped" };
let timer = null;
const picked = new Set();
let touched = false;

export function setupRun() {
  $("start").addEventListener("click", start);
  on("state", () => {
    const place = store.state.output;
    $("results-place").textContent = place ? `Results are in ${place} and stay there.` : "Results go when the studio closes: download them before.";
    summary();
    pick();
    showJobs();
    follow();
  });
  on("clips", pick);
  on("policy", summary);
  on("clip", pick);
}

function summary() {
  const { explained, asked, regions, release } = policy();
  const ready = asked.length > 0 || regions;
  const lines = ready ? explained : ["Nothing was chosen yet: choose what to hide first."];
  $("sentences").replaceChildren(...[...lines, ...(release ? [`Not for release: ${release}.`] : [])].map((line) => el("li", {}, line)));
  $("start").disabled = !ready || !picked.size;
}

function pick() {
  const { clips } = store.state;
  if (!touched) {
    picked.clear();
    const only = store.clip?.id || (clips.length === 1 ? clips[0].id : null);
    if (only) picked.add(only);
  }
  const rows = clips.map((clip) => el("label", { class: "check" }, el("input", { type: "checkbox", value: clip.id, checked: picked.has(clip.id), onchange: (event) => {
    touched = true;
    if (event.target.checked) picked.add(clip.id);
    else picked.delete(clip.id);
    summary();
  } }), el("span", {}, clip.name)));
  $("pick").replaceChildren(el("legend", {}, "Videos"), ...(rows.length ? rows : [el("p", { class: "hint" }, "There is no video yet.")]));
  summary();
}

async function start() {
  const clips = store.state.clips.filter((clip) => picked.has(clip.id)).map((clip) => clip.id);
  try {
    await api.json("POST", "api/jobs", { clips, audio: $("audio").value });
    await load();
  } catch (error) {
    complain(error);
  }
}

/** Run these videos again with the policy as it is now. */
export async function runAgain(clip, audio) {
  await api.json("POST", "api/jobs", { clips: [clip], audio });
  await load();
}

async function load() {
  const before = new Map(store.state.jobs.map((job) => [job.id, job.state]));
  store.state.jobs = await api.json("GET", "api/jobs");
  showJobs();
  if (store.state.jobs.some((job) => before.get(job.id) !== job.state)) tell("jobs");
  follow();
}

function follow() {
  clearTimeout(timer);
  if (store.state.jobs.some((job) => job.state === "running" || job.state === "waiting")) {
    timer = setTimeout(() => load().catch((error) => {
      complain(error);
      timer = setTimeout(follow, 5000);
    }), 500);
  }
}

function showJobs() {
  const { jobs } = store.state;
  const busy = jobs.filter((job) => job.state === "running" || job.state === "waiting").length;
  $("running-count").hidden = !busy;
  $("running-count").textContent = busy;
  $("running-count").setAttribute("aria-label", `${busy} under way`);
  const list = $("jobs");
  if (!jobs.length) {
    list.replaceChildren(el("li", { class: "empty" }, "No runs yet."));
    return;
  }
  const known = new Map([...list.querySelectorAll("li[data-job]")].map((node) => [node.dataset.job, node]));
  list.replaceChildren(...[...jobs].reverse().map((job) => row(job, known.get(job.id))));
}

/** The row of a run; the old one stays where nothing but its progress changed, so that the focus stays, too. */
function row(job, old) {
  const key = job.state;
  if (old?.dataset.key === key) {
    if (key === "running") progress(old, job);
    return old;
  }
  const node = el("li", { class: "card job" });
  node.dataset.job = job.id;
  node.dataset.key = key;
  const buttons = el("div", { class: "buttons" });
  if (job.state === "waiting" || job.state === "running") {
    buttons.append(el("button", { type: "button", "aria-label": `Stop the run of ${job.clip_name}`, onclick: () => stop(job) }, "Stop"));
  }
  if (job.state === "done") {
    buttons.append(el("a", { class: "button", href: `#review/${job.id}` }, "Review"),
      el("a", { class: "button", href: `api/jobs/${job.id}/video`, download: job.name }, "Download"));
  }
  node.append(el("div", { class: "line" }, el("h3", {}, job.clip_name), el("span", { class: "state" }, STATES[job.state])));
  if (job.state === "running") node.append(el("progress", { max: 1, "aria-label": `Progress of ${job.clip_name}` }), el("p", { class: "told" }));
  else node.append(el("p", { class: job.state === "failed" ? "bad-text" : "" }, ended(job)));
  node.append(buttons);
  progress(node, job);
  return node;
}

function progress(node, job) {
  const bar = node.querySelector("progress");
  if (!bar) return;
  if (job.total && job.done) bar.value = job.done / job.total;
  const speed = job.frames_per_second ? `${job.frames_per_second.toFixed(1)} frames/s` : "getting ready";
  const left = job.remaining_seconds === null ? "" : ` · ${duration(job.remaining_seconds)} left`;
  node.querySelector(".told").textContent = `${job.done}${job.total ? ` of ${job.total}` : ""} frames · ${speed}${left}`;
}

function ended(job) {
  if (job.state === "failed") return sentence(job.error.error);
  if (job.state === "stopped") return "Stopped; nothing was written.";
  if (job.state === "waiting") return "Starts when the run before it has ended.";
  const { coverage } = job.result;
  const features = job.computed ? `${job.computed} of ${job.computed + job.reused} frames matched anew` : "no frame matched anew";
  return `${job.result.frames} frames, ${percent(coverage.hidden_share_mean)} hidden, ${job.frames_per_second.toFixed(1)} frames/s; ${features}.`;
}

async function stop(job) {
  try {
    await api.json("DELETE", `api/jobs/${job.id}`);
  } catch (error) {
    complain(error);
  }
  await load().catch(complain);
}
