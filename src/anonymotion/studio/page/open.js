// Step 1: the videos of the folder, and uploads.

import * as api from "./api.js";
import { $, complain, duration, el, notice, percent, sentence } from "./dom.js";
import { on, openClip, store, tell } from "./store.js";

const details = new Map();

export function setupOpen() {
  const input = $("upload");
  input.addEventListener("change", () => {
    send([...input.files]);
    input.value = "";
  });
  const drop = $("drop");
  for (const name of ["dragenter", "dragover"]) drop.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  for (const name of ["dragleave", "drop"]) drop.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.remove("over");
  });
  drop.addEventListener("drop", (event) => send([...event.dataTransfer.files]));
  // a file that misses the place must not make the browser leave the page
  for (const name of ["dragover", "drop"]) window.addEventListener(name, (event) => event.preventDefault());
  on("state", () => {
    const limit = store.state.upload_limit;
    const most = limit < 1e9 ? `${Math.max(1, Math.round(limit / 1e6))} MB` : `${(limit / 2 ** 30).toFixed(0)} GB`;
    $("upload-hint").textContent = `At most ${most}: ${store.state.suffixes.join(" ").replaceAll(".", "")}`;
    input.accept = store.state.suffixes.join(",");
    showClips();
  });
}

async function send(files) {
  for (const file of files) {
    const bar = $("upload-bar");
    $("upload-progress").hidden = false;
    try {
      const clip = await api.upload(file, (share) => {
        bar.value = share;
        bar.textContent = percent(share);
      });
      details.set(clip.id, clip);
      await refreshClips();
      notice(`${clip.name} is here.`);
    } catch (error) {
      complain(error);
    }
    $("upload-progress").hidden = true;
    bar.value = 0;
  }
}

export async function refreshClips() {
  store.state.clips = await api.json("GET", "api/videos");
  showClips();
  tell("clips");
}

function showClips() {
  const list = $("clips");
  const { clips } = store.state;
  if (!clips.length) {
    const where = store.state.folder ? "There is no video in the folder that was named." : "No folder was named on the command line.";
    list.replaceChildren(el("li", { class: "empty" }, `${where} Upload one to begin.`));
    return;
  }
  list.replaceChildren(...clips.map(card));
}

function card(clip) {
  const facts = el("p", {}, "…");
  const thumb = el("div", { class: "thumb" });
  const open = el("button", { type: "button", class: "primary", "aria-label": `Open ${clip.name}`, onclick: () => choose(clip) }, "Open");
  const buttons = el("div", { class: "buttons" }, open);
  if (clip.uploaded) buttons.append(el("button", { type: "button", "aria-label": `Delete ${clip.name}`, onclick: () => remove(clip) }, "Delete"));
  const about = el("div", { class: "about" }, el("h3", {}, clip.name), facts, buttons);
  describe(clip).then((found) => {
    facts.textContent = factsOf(found);
    thumb.append(el("img", { src: `api/videos/${clip.id}/thumbnail`, alt: `First frame of ${clip.name}` }));
  }).catch((error) => {
    facts.className = "bad-text";
    facts.textContent = sentence(error.message);
    thumb.textContent = "cannot be read";
    open.disabled = true;
  });
  return el("li", { class: "card" }, thumb, about);
}

async function describe(clip) {
  if (!details.has(clip.id)) details.set(clip.id, await api.json("GET", `api/videos/${clip.id}`));
  return details.get(clip.id);
}

function factsOf(clip) {
  const size = `${clip.width}×${clip.height}`;
  if (clip.picture) return `Picture, ${size}`;
  const rate = clip.frames_per_second ? `${Number(clip.frames_per_second.toFixed(2))} frames/s` : "";
  return [duration(clip.duration_seconds), size, rate, clip.audio ? "with sound" : "no sound"].filter(Boolean).join(" · ");
}

async function choose(clip) {
  try {
    await openClip(clip.id);
    location.hash = "#choose";
  } catch (error) {
    complain(error);
  }
}

async function remove(clip) {
  try {
    await api.json("DELETE", `api/videos/${clip.id}`);
    if (store.clip?.id === clip.id) {
      store.clip = null;
      tell("clip");
    }
    await refreshClips();
  } catch (error) {
    complain(error);
  }
}
