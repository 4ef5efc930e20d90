// Templates of one's own: what to do with a place that was marked, and those that are there.

import * as api from "./api.js";
import { $, complain, el, notice } from "./dom.js";
import { on, policy, queuePolicy, refreshLibrary, store } from "./store.js";

let current;
let redraw;
let useTool;

/** current: gives the view; redraw: shows its layers again; useTool: takes a tool. */
export function setupTemplates(view, refresh, setTool) {
  [current, redraw, useTool] = [view, refresh, setTool];
  on("state", showOwn);
  on("library", showOwn);
}

export function showCandidate(candidate) {
  $("candidate").hidden = !candidate;
  if (!candidate) return;
  const names = store.state.library.attributes.map((attribute) => attribute.name);
  const list = el("datalist", { id: "names" }, ...names.map((name) => el("option", { value: name })));
  const name = el("input", { type: "text", id: "template-name", value: current().heat || policy().asked[0] || "", maxLength: 40,
    autocomplete: "off", spellcheck: false, list: "names", placeholder: "e.g. hair, logo" });
  const sign = (value, text, checked) => el("label", {}, el("input", { type: "radio", name: "sign", value, checked }), text);
  const keep = el("input", { type: "checkbox", id: "keep-template" });
  const form = el("form", { onsubmit: (event) => {
    event.preventDefault();
    add(candidate, name.value, form.elements.sign.value === "not", keep.checked);
  } },
  el("p", { class: "hint", id: "candidate-map" }, ""),
  candidate.uniform ? el("p", { class: "bad-text" }, "There is hardly anything to see here: this would match walls and sky.") : null,
  el("div", { class: "field" }, el("label", { for: "template-name" }, "What is it?"), name, list),
  el("div", { class: "signs", role: "radiogroup", "aria-label": "Sign" }, sign("is", "This is it", true), sign("not", "Not this", false)),
  el("label", { class: "check" }, keep, "Keep in my library, with a crop of this picture"),
  el("p", { class: "buttons" }, el("button", { type: "submit", class: "primary" }, "Add"),
    el("button", { type: "button", onclick: giveUp }, "Discard")));
  $("candidate-body").replaceChildren(form);
}

function giveUp() {
  current().candidate = null;
  showCandidate(null);
  redraw();
}

async function add(candidate, text, negative, keep) {
  const attribute = text.trim().toLowerCase();
  try {
    const added = await api.json("POST", "api/templates", { candidate: candidate.id, attribute, negative, keep });
    const view = current();
    view.candidate = null;
    view.heat = added.attribute;
    showCandidate(null);
    useTool("look");
    await refreshLibrary();
    if (!policy().asked.includes(added.attribute)) await queuePolicy((body) => body.attributes.push(added.attribute));
    notice(negative ? `Less is found as ${added.attribute} now.` : `One more template of ${added.attribute}.`);
  } catch (error) {
    complain(error);
  }
}

async function showOwn() {
  let own = [];
  try {
    own = await api.json("GET", "api/templates?own=true");
  } catch (error) {
    complain(error);
  }
  const items = own.map((template) => el("li", {},
    el("img", { src: `api/templates/${template.id}/picture`, alt: `Where ${template.attribute} was marked` }),
    el("p", {}, el("strong", {}, template.negative ? `not ${template.attribute}` : template.attribute), template.kept ? " · kept" : ""),
    el("button", { type: "button", class: "quiet", "aria-label": `Delete template ${template.id} of ${template.attribute}`,
      onclick: () => remove(template) }, "Delete")));
  const none = el("li", { class: "hint" }, "None yet. Use Mark, then click on what is to be hidden, or drag a box around it.");
  $("own").replaceChildren(...(items.length ? items : [none]));
}

async function remove(template) {
  try {
    await api.json("DELETE", `api/templates/${template.id}`);
    store.state.policy = await api.json("GET", "api/policy");
    await refreshLibrary();
  } catch (error) {
    complain(error);
  }
}
