// Sends decisions, and remembers what this page said so that it can be undone.

import { ask } from "./api.js";

const NAME = "imagetools.who";

export const who = () => localStorage.getItem(NAME) ?? "";
export const setWho = (name) => localStorage.setItem(NAME, name.trim().slice(0, 200));

const named = (images) => images.map(({ relative_path, content }) => ({ relative_path, content }));
const bodyOf = (decision) => (decision.images ? { ...decision, images: named(decision.images) } : decision);

// How many bytes a decision takes in a request.
export const sizeOf = (decision) => new Blob([JSON.stringify(bodyOf(decision))]).size;

export class Decisions {
  // of this page: the numbers of its decisions, and its steps { made, group }, the newest last
  numbers = new Set();
  steps = [];

  // Says something of images; each decision: { decision, images, keep, group, expected }, without images of all of the
  // group. Returns { made, overtook } or { conflicts }; an Error where the bridge refuses. `group` is what was seen;
  // null: no single one.
  async say(decisions, group = null) {
    const result = await this.#send(decisions.map(bodyOf));
    if (result.made) this.steps.push({ made: result.made, group });
    return result;
  }

  // Takes back decisions, as answers have them.
  async undo(made) {
    // by its id, since its images may be too many for a request
    const [only] = made;
    if (made.length === 1) {
      const path = `/v1/decisions/${only.id}?who=${encodeURIComponent(who())}&expected=${only.number}`;
      return this.#noted(await ask("DELETE", path));
    }
    return this.#send(made.map((one) => ({ decision: null, images: named(one.images), expected: one.number })));
  }

  async #send(decisions) {
    return this.#noted(await ask("POST", "/v1/decisions", { who: who(), decisions }));
  }

  #noted({ status, body }) {
    if (status === 409) return { conflicts: body.response.conflicts };
    if (status !== 200) throw new Error(body.error_message);
    for (const one of body.response.decisions) this.numbers.add(one.number);
    return { made: body.response.decisions, overtook: body.response.overtook };
  }
}

const WORDS = { duplicate: "duplicates", not_duplicate: "not duplicates", later: "later", null: "undone" };

// What a decision says, in words.
export function inWords(one) {
  if (one.decision !== "duplicate" || !one.keep.length) return WORDS[one.decision];
  if (one.keep.length === 1) return `keep ${one.keep[0]}`;
  return `duplicates, keep ${one.keep.length === one.images.length ? "all" : one.keep.length}`;
}
