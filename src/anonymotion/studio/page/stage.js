// The picture with its layers: pointer and keyboard give places in it, layers are fetched and laid over it.

import * as api from "./api.js";
import { clock, complain, el, later, sentence } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag, props = {}) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(props)) node.setAttribute(name, value);
  return node;
}

export class Stage {
  /**
   * label: what the picture is, for a screen reader. layers: names, from below to above. pick: is told
   * ("point", [x, y]) or ("box", [x0, y0, x1, y1]) in pixels of the frame; point: [x, y] under the pointer.
   * below: pixels of the window that are for what stands around it.
   */
  constructor(place, { label, layers, pick, point, below = 350 }) {
    this.below = below;
    this.pick = pick;
    this.point = point;
    this.tool = "look";
    this.cursor = null;
    this.start = null;
    this.images = new Map();
    this.wanted = new Map();
    this.node = el("div", { class: "stage", tabIndex: 0, role: "application", "aria-label": label,
      "aria-describedby": `${place.id}-help` });
    for (const name of ["frame", ...layers]) {
      const image = el("img", { alt: "", draggable: false });
      image.dataset.layer = name;
      this.images.set(name, image);
      this.node.append(image);
    }
    this.marks = svg("svg", { "aria-hidden": "true", preserveAspectRatio: "none" });
    this.regions = svg("g");
    this.drawing = svg("g");
    this.cross = svg("g");
    this.marks.append(this.regions, this.drawing, this.cross);
    this.divider = el("div", { class: "divider", hidden: true });
    this.before = el("span", { class: "side before", hidden: true }, "before");
    this.after = el("span", { class: "side after", hidden: true }, "after");
    this.note = el("p", { class: "state", hidden: true });
    this.node.append(this.marks, this.divider, this.before, this.after, this.note);
    place.append(this.node, el("p", { class: "hint", id: `${place.id}-help` },
      "Keyboard: arrow keys move the cross (with Shift: faster), Enter marks, Escape gives up a box."));
    this.listen();
    new ResizeObserver(() => this.fit()).observe(place);
    this.place = place;
  }

  setSize(width, height, aspect = 1) {
    this.size = { width, height, aspect };
    this.marks.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.node.style.aspectRatio = `${width * aspect} / ${height}`;
    this.cursor = null;
    this.cross.replaceChildren();
    this.drawing.replaceChildren();
    this.fit();
  }

  /** As wide as its column, but not higher than the window leaves room for. */
  fit() {
    if (!this.size) return;
    const highest = Math.max(240, window.innerHeight - this.below);
    const ratio = (this.size.width * this.size.aspect) / this.size.height;
    this.node.style.maxWidth = `${Math.round(highest * ratio)}px`;
  }

  // ---------------------------------------------------------------- places

  at(event) {
    const box = this.node.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * this.size.width;
    const y = ((event.clientY - box.top) / box.height) * this.size.height;
    return [this.clamp(x, this.size.width), this.clamp(y, this.size.height)];
  }

  clamp(value, length) {
    return Math.min(Math.max(value, 0), length - 0.01);
  }

  listen() {
    const hovered = later((place) => this.point(place), 90);
    this.node.addEventListener("pointermove", (event) => {
      if (!this.size) return;
      const place = this.at(event);
      if (this.start) this.drawBox(this.start, place);
      else hovered(place);
    });
    this.node.addEventListener("pointerdown", (event) => {
      if (!this.size || event.button) return;
      this.node.setPointerCapture(event.pointerId);
      this.start = this.at(event);
      this.keyboard = false;
    });
    this.node.addEventListener("pointerup", (event) => {
      if (!this.start || this.keyboard) return;
      this.finish(this.start, this.at(event));
    });
    this.node.addEventListener("pointercancel", () => this.giveUp());
    this.node.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    if (!this.size) return;
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const step = steps[event.key];
    if (step) {
      const length = (event.shiftKey ? 0.05 : 0.01) * Math.min(this.size.width, this.size.height);
      const from = this.cursor || [this.size.width / 2, this.size.height / 2];
      this.cursor = [this.clamp(from[0] + step[0] * length, this.size.width), this.clamp(from[1] + step[1] * length, this.size.height)];
      this.showCross();
      if (this.start) this.drawBox(this.start, this.cursor);
      this.hoverSoon ??= later(() => this.point(this.cursor), 150);
      this.hoverSoon();
    } else if (event.key === "Enter" && this.cursor) {
      if (this.drawsBoxes && !this.start) {
        this.start = this.cursor;
        this.keyboard = true;
      } else this.finish(this.start || this.cursor, this.cursor);
    } else if (event.key === "Escape") this.giveUp();
    else return;
    event.preventDefault();
  }

  get drawsBoxes() {
    return ["box", "hide", "spare"].includes(this.tool);
  }

  finish(from, to) {
    const pixels = this.size.width / this.node.getBoundingClientRect().width;
    const far = Math.max(Math.abs(from[0] - to[0]), Math.abs(from[1] - to[1])) > 5 * pixels;
    this.giveUp();
    if (this.drawsBoxes || (far && this.tool === "point")) {
      if (far) this.pick("box", [Math.min(from[0], to[0]), Math.min(from[1], to[1]), Math.max(from[0], to[0]), Math.max(from[1], to[1])]);
    } else if (this.tool === "point") this.pick("point", to);
    else this.point(to);
  }

  giveUp() {
    this.start = null;
    this.drawing.replaceChildren();
  }

  drawBox([x0, y0], [x1, y1]) {
    if (this.tool === "look") return;
    this.drawing.replaceChildren(svg("rect", { class: "drawn", x: Math.min(x0, x1), y: Math.min(y0, y1),
      width: Math.abs(x1 - x0), height: Math.abs(y1 - y0) }));
  }

  showCross() {
    const [x, y] = this.cursor;
    const arm = Math.min(this.size.width, this.size.height) / 30;
    this.cross.replaceChildren(svg("path", { class: "cross", d: `M${x - arm} ${y}H${x + arm}M${x} ${y - arm}V${y + arm}` }));
  }

  /** Outlines: {points, kind: "hide" | "spare" | "mark"} in pixels. */
  showRegions(shapes) {
    this.regions.replaceChildren(...shapes.map(({ points, kind }) => {
      if (points.length === 1) {
        const [[x, y]] = points;
        const arm = Math.min(this.size.width, this.size.height) / 40;
        return svg("path", { class: "cross", d: `M${x - arm} ${y}H${x + arm}M${x} ${y - arm}V${y + arm}` });
      }
      return svg("polygon", { points: points.map((p) => p.join(",")).join(" "), class: kind === "mark" ? "drawn" : `region-${kind}` });
    }));
  }

  // ---------------------------------------------------------------- layers

  /** Show a picture in a layer; null takes it away. The answer's headers, or null if it came to nothing. */
  async show(name, path, { opacity = 1 } = {}) {
    const image = this.images.get(name);
    this.wanted.get(name)?.abort();
    const control = new AbortController();
    this.wanted.set(name, control);
    if (path === null) {
      this.drop(image);
      return null;
    }
    try {
      const { url, headers } = await api.picture(path, control.signal);
      if (this.wanted.get(name) !== control) {
        URL.revokeObjectURL(url);
        return null;
      }
      const old = image.src;
      image.src = url;
      image.style.opacity = opacity;
      await image.decode().catch(() => null);
      if (old) URL.revokeObjectURL(old);
      return headers;
    } catch (error) {
      if (error.name === "AbortError" || error.status === 409) return null;
      this.drop(image);
      throw error;
    }
  }

  drop(image) {
    if (image.src) URL.revokeObjectURL(image.src);
    image.removeAttribute("src");
  }

  /** Before and after: the layer `name` is seen right of `share`; null shows all of it, without a divider. */
  wipe(name, share) {
    const image = this.images.get(name);
    const off = share === null;
    for (const node of [this.divider, this.before, this.after]) node.hidden = off;
    image.style.clipPath = off ? "" : `inset(0 0 0 ${100 * share}%)`;
    if (!off) this.divider.style.left = `${100 * share}%`;
  }

  say(text, failed = false) {
    this.note.hidden = !text;
    this.note.textContent = text || "";
    this.note.classList.toggle("failed", failed);
  }
}

/** The slider over the frames; `moved` is told the frame, and whether the hand is still on it. */
export class Scrubber {
  constructor(place, moved) {
    this.moved = moved;
    const id = `${place.id}-range`;
    this.range = el("input", { type: "range", min: 0, max: 0, step: 1, value: 0, id, "aria-label": "Frame",
      oninput: () => this.set(Number(this.range.value), true), onchange: () => this.set(Number(this.range.value), false) });
    this.out = el("output", { for: id });
    const step = (by, label, text) => el("button", { type: "button", "aria-label": label, onclick: () => this.set(this.frame + by, false) }, text);
    place.append(step(-1, "Previous frame", "‹"), this.range, step(1, "Next frame", "›"), this.out);
    this.frame = 0;
    this.place = place;
  }

  setup(frames, seconds, frame = 0) {
    this.frames = Math.max(1, frames);
    this.seconds = seconds;
    this.range.max = this.frames - 1;
    this.place.hidden = this.frames < 2;
    this.set(frame, false);
  }

  set(frame, dragging) {
    this.frame = Math.min(Math.max(frame, 0), this.frames - 1);
    this.range.value = this.frame;
    const time = this.frames > 1 ? (this.seconds * this.frame) / this.frames : 0;
    this.range.setAttribute("aria-valuetext", `frame ${this.frame}, ${clock(time)}`);
    this.out.textContent = `frame ${this.frame} · ${clock(time)}`;
    this.moved(this.frame, dragging);
  }
}

/** Do something with a stage, and say on it what went wrong. */
export async function attempt(stage, action) {
  try {
    await action();
  } catch (error) {
    if (error.name === "AbortError") return;
    if (stage) stage.say(sentence(error.message), true);
    else complain(error);
  }
}
