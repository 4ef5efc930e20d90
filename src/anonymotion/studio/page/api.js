// Requests to the studio. The page's own address holds the token, so relative addresses are enough.

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function refusal(response) {
  let message = `the studio answered ${response.status}`;
  try {
    message = (await response.json()).error || message;
  } catch { /* no sentence came with it */ }
  return new Refused(response.status, message);
}

async function ask(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "the studio does not answer: is it still running in the terminal?");
  }
}

/** One JSON answer; null where there is none. Throws Refused with a sentence for people. */
export async function json(method, path, body) {
  const options = { method };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers = { "content-type": "application/json" };
  }
  const response = await ask(path, options);
  if (!response.ok) throw await refusal(response);
  return response.status === 204 ? null : response.json();
}

/** A picture as an address for <img>, with the headers that came with it; `signal` gives it up. */
export async function picture(path, signal) {
  const response = await ask(path, { signal });
  if (!response.ok) throw await refusal(response);
  return { url: URL.createObjectURL(await response.blob()), headers: response.headers };
}

/** Upload a file; `progress` is told the share that has gone, 0 to 1. */
export function upload(file, progress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `api/videos?name=${encodeURIComponent(file.name)}`);
    request.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
    request.onerror = () => reject(new Refused(0, `${file.name} could not be sent: it may be too large`));
    request.onload = () => {
      let answer = {};
      try {
        answer = JSON.parse(request.responseText);
      } catch { /* refused without a sentence */ }
      if (request.status === 201) resolve(answer);
      else reject(new Refused(request.status, answer.error || `the studio answered ${request.status}`));
    };
    request.send(file);
  });
}

const turns = new Map();
const page = Math.random().toString(36).slice(2, 10);

/** The end of an address that makes the latest request of `view` count, and older ones be given up. */
export function turn(view) {
  turns.set(view, (turns.get(view) || 0) + 1);
  return `view=${page}-${view}&turn=${turns.get(view)}`;
}
