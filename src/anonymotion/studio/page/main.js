// The page: which step is shown, light and dark, and the state of the session when it opens.

import { $, complain } from "./dom.js";
import { refresh, setupChoose } from "./choose.js";
import { loadState, openClip, store } from "./store.js";
import { setupOpen } from "./open.js";
import { setupPanel } from "./panel.js";
import { openReview, setupReview } from "./review.js";
import { setupRun } from "./run.js";

const VIEWS = ["open", "choose", "run", "review"];

function showView() {
  const [name, id] = location.hash.slice(1).split("/");
  const view = VIEWS.includes(name) ? name : "open";
  for (const other of VIEWS) {
    $(`view-${other}`).hidden = other !== view;
    const link = document.querySelector(`nav [data-view="${other}"]`);
    if (other === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${document.querySelector(`nav [data-view="${view}"]`).firstChild.textContent} · anonymotion studio`;
  // what was refused in another step is not to be read here
  for (const box of document.querySelectorAll(".notice.bad")) box.remove();
  if (view === "choose") refresh();
  if (view === "review") openReview(id);
}

function theme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  const button = $("theme");
  const apply = (choice) => {
    if (choice) root.dataset.theme = choice;
    const now = (root.dataset.theme || (dark.matches ? "dark" : "light")) === "dark";
    button.setAttribute("aria-pressed", String(now));
  };
  apply(localStorage.getItem("theme"));
  button.addEventListener("click", () => {
    const choice = button.getAttribute("aria-pressed") === "true" ? "light" : "dark";
    localStorage.setItem("theme", choice);
    apply(choice);
  });
  dark.addEventListener("change", () => apply(null));
}

async function start() {
  theme();
  setupOpen();
  setupChoose();
  setupPanel();
  setupRun();
  setupReview();
  try {
    await loadState();
    // after a reload the video that was open is open again
    const last = sessionStorage.getItem("clip");
    const known = store.state.clips.map((clip) => clip.id);
    if (known.includes(last)) await openClip(last);
    else if (known.length === 1 && store.state.folder) await openClip(known[0]);
  } catch (error) {
    complain(error);
  }
  window.addEventListener("hashchange", showView);
  if (store.state) showView();
  document.documentElement.dataset.ready = "true";
}

start();
