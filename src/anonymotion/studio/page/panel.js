// The panel of step 2: chips, thresholds, sliders, regions, the policy file.

import { $, complain, el, later } from "./dom.js";
import { joined, loadPolicyFile, on, parts, policy, queuePolicy, store } from "./store.js";
import { refresh, view } from "./choose.js";

const SLIDERS = [
  ["dilation", "Grow by", 0, 10, 0.1, (value) => `${value.toFixed(1)} %`, "of the frame's short side"],
  ["look_ahead", "Frames before and after", 0, 15, 1, (value) => String(value), "what is found is hidden there, too"],
];

export function setupPanel() {
  on("state", showAll);
  on("library", showAll);
  on("policy", showAll);
  $("policy-load").addEventListener("change", async (event) => {
    const [file] = event.target.files;
    event.target.value = "";
    if (!file) return;
    try {
      await loadPolicyFile(await file.text());
    } catch (error) {
      complain(error);
    }
  });
}

function showAll() {
  chips();
  chosen();
  sliders();
  regions();
}

/** Replace what is in a place, and give the focus back to what had it there. */
function replace(place, ...children) {
  const focused = place.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  place.replaceChildren(...children);
  if (focused) place.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

function chips() {
  const { library, policy: { asked } } = store.state;
  const group = (title, names) => el("div", { class: "group" }, el("p", {}, title), el("div", { class: "chips" }, ...names));
  const known = new Set(Object.values(library.groups).flat());
  const own = library.attributes.filter((attribute) => !known.has(attribute.name));
  const chip = (name, members) => {
    const on_ = members.filter((member) => asked.includes(member)).length;
    const pressed = on_ === members.length ? "true" : on_ ? "mixed" : "false";
    const button = el("button", { type: "button", class: "chip", "aria-pressed": pressed, onclick: () => toggle(members, pressed !== "true") }, name);
    button.dataset.key = `chip-${name}`;
    return button;
  };
  const blocks = [
    group("Groups", Object.entries(library.groups).map(([name, members]) => chip(name, members))),
    group("Parts", library.attributes.filter((a) => known.has(a.name)).map(({ name }) => chip(name, [name]))),
  ];
  if (own.length) blocks.push(group("Your own", own.map((attribute) => chip(attribute.name, [attribute.name]))));
  replace($("chips"), ...blocks);
}

function toggle(members, wanted) {
  return queuePolicy((body) => {
    const now = new Set(policy().asked);
    for (const member of members) {
      if (wanted) now.add(member);
      else now.delete(member);
    }
    body.attributes = [...now];
    if (wanted) body.keep = body.keep.filter((name) => !members.includes(name));
  });
}

function chosen() {
  const { asked, thresholds } = policy();
  $("found-card").hidden = !asked.length;
  const shown = asked.includes(view.heat) ? view.heat : asked[0];
  replace($("chosen"), el("p", { class: "hint" }, "Hidden from this match on. The dot chooses whose heat map is shown."), ...asked.map((name) => {
    const id = `threshold-${name}`;
    const dot = el("input", { type: "radio", name: "heat", checked: name === shown, "aria-label": `Heat map of ${name}`, onchange: () => {
      view.heat = name;
      refresh();
    } });
    dot.dataset.key = `heat-${name}`;
    const out = el("output", { for: id }, thresholds[name].toFixed(2));
    const range = el("input", { type: "range", id, min: 0.05, max: 0.95, step: 0.01, value: thresholds[name], oninput: () => {
      out.textContent = Number(range.value).toFixed(2);
      change(name, range.value);
    } });
    range.dataset.key = id;
    const change = later((key, value) => queuePolicy((body) => {
      const text = parts(body.settings.threshold);
      text.names[key] = Number(value);
      body.settings.threshold = joined(text);
    }), 180);
    return el("div", { class: "slider" }, el("div", { class: "line" }, dot, el("label", { for: id }, name), out), range);
  }));
}

function sliders() {
  replace($("sliders"), ...SLIDERS.map(([name, text, low, high, step, say, hint]) => {
    const value = policy()[name];
    const out = el("output", { for: name }, say(value));
    const change = later((number) => queuePolicy((body) => {
      body.settings[name] = number;
    }), 180);
    const range = el("input", { type: "range", id: name, min: low, max: Math.max(high, value), step, value, "aria-describedby": `${name}-hint`, oninput: () => {
      out.textContent = say(Number(range.value));
      change(Number(range.value));
    } });
    range.dataset.key = name;
    return el("div", { class: "slider" }, el("div", { class: "line" }, el("label", { for: name }, text), out), range,
      el("p", { class: "hint", id: `${name}-hint` }, hint));
  }));
}

function regions() {
  const rows = [];
  for (const [key, text] of [["include", "always hidden"], ["exclude", "never hidden"]]) {
    policy()[key].forEach((shape, number) => {
      const when = shape.span ? `, ${shape.span}` : "";
      rows.push(el("li", {}, `${text}: ${shape.text.split("@")[0]}${when}`, el("button", { type: "button", class: "quiet",
        "aria-label": `Delete the region ${shape.text}`, onclick: () => queuePolicy((body) => body[key].splice(number, 1)) }, "Delete")));
    });
  }
  if (!rows.length) rows.push(el("li", { class: "hint" }, "None. Use Always hide or Never hide, then drag over the picture."));
  replace($("regions"), ...rows);
}
