// Sends decisions, and remembers what this page said so that it can be undone.

import { ask } from "./api.js";

const NAME = "imagetools.who";

export const who = () => localStorage.getItem(NAME) ?? "";
export const setWho = (name) => localStorage.setItem(NAME, name.trim().slice(0, 200));

const named = (images) => images.map(({ relative_path, content }) => ({ relative_path, content }));

export class Decisions {
  // of this page: the numbers of its decisions, and its steps { made, group }, the newest last
  numbers = new Set();
  steps = [];

  // Says something of images; each decision: { decision, images, keep, group, expected }. Returns { made, overtook } or
  // { conflicts }; an Error where the bridge refuses. `group` is what was seen; null: no single one.
  async say(decisions, group = null) {
    const result = await this.#send(decisions.map((one) => ({ ...one, images: named(one.images) })));
    if (result.made) this.steps.push({ made: result.made, group });
    return result;
  }

  // Takes back decisions, as answers have them.
  async undo(made) {
    return this.#send(made.map((one) => ({ decision: null, images: named(one.images), expected: one.number })));
  }

  async #send(decisions) {
    const { status, body } = await ask("POST", "/v1/decisions", { who: who(), decisions });
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
