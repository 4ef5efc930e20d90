// What the page knows: the state of the session, the video that is open, and changes of the policy.

import * as api from "./api.js";
import { complain, notice } from "./dom.js";

export const store = { state: null, clip: null, frame: 0 };
const listeners = new Map();

export function on(name, action) {
  listeners.set(name, [...(listeners.get(name) || []), action]);
}

export function tell(name, value) {
  for (const action of listeners.get(name) || []) action(value);
}

export async function loadState() {
  store.state = await api.json("GET", "api/state");
  tell("state");
}

export const policy = () => store.state.policy;

/** Change the policy with `edit`, which gets a copy of its body; another window's change is shown instead. */
export async function changePolicy(edit) {
  const body = structuredClone(policy().policy);
  edit(body);
  try {
    store.state.policy = await api.json("PUT", "api/policy", { policy: body, seen: policy().revision });
  } catch (error) {
    if (error.status === 409) {
      store.state.policy = await api.json("GET", "api/policy");
      notice(error.message, true);
    } else complain(error);
  }
  tell("policy");
}

export async function loadPolicyFile(text) {
  store.state.policy = await api.json("PUT", "api/policy/file", { text, seen: policy().revision });
  tell("policy");
}

export async function refreshLibrary() {
  store.state.library = await api.json("GET", "api/attributes");
  tell("library");
}

/** Changes queue up, so that a quick hand does not run into its own revision. */
let last = Promise.resolve();
export function queuePolicy(edit) {
  last = last.then(() => changePolicy(edit));
  return last;
}

export async function openClip(id, frame = 0) {
  store.clip = await api.json("GET", `api/videos/${id}`);
  store.frame = Math.min(frame, Math.max(0, store.clip.frames - 1));
  sessionStorage.setItem("clip", id);
  tell("clip");
}

/** `hair=0.4,0.5` as {names, rest}: values by name, and what has no name. */
export function parts(text) {
  const found = { names: {}, rest: null };
  for (const part of String(text ?? "").split(",")) {
    const [name, value] = part.split("=");
    if (value !== undefined) found.names[name.trim()] = Number(value);
    else if (part.trim()) found.rest = part.trim();
  }
  return found;
}

export function joined({ names, rest }) {
  return [rest, ...Object.entries(names).map(([name, value]) => `${name}=${value}`)].filter((p) => p !== null).join(",");
}
