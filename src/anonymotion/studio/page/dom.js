// Small helpers: elements, notices, texts.

/** An element with properties (`class`, `on...`, aria-... as attributes) and children. */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "class") node.className = value;
    else if (name in node && !name.startsWith("aria") && name !== "list") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export const $ = (id) => document.getElementById(id);

/** Say something in the corner; a refusal stays until it is closed. */
export function notice(text, bad = false) {
  const box = el("div", { class: bad ? "notice bad" : "notice" }, el("p", {}, text));
  box.append(el("button", { type: "button", class: "quiet", "aria-label": "Close this notice", onclick: () => box.remove() }, "×"));
  $("notices").append(box);
  while ($("notices").children.length > 3) $("notices").firstChild.remove();
  if (!bad) setTimeout(() => box.remove(), 6000);
}

/** What to do with an error that nobody else handles. */
export function complain(error) {
  if (error.name === "AbortError") return;
  notice(sentence(error.message || String(error)), true);
}

/** A sentence as people write it: the first letter large, a stop at the end. */
export function sentence(text) {
  const trimmed = text.trim();
  const first = /^[a-z]+[ ,:]/.test(trimmed) ? trimmed[0].toUpperCase() + trimmed.slice(1) : trimmed;
  return /[.!?]$/.test(first) ? first : `${first}.`;
}

export function clock(seconds) {
  const minutes = Math.floor(seconds / 60);
  return `${String(minutes).padStart(2, "0")}:${(seconds - 60 * minutes).toFixed(2).padStart(5, "0")}`;
}

export function duration(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

export const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;

export function later(action, milliseconds) {
  let timer;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...values), milliseconds);
  };
}
