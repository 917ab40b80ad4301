// Shows dead letters, and sends them back.

import { need, when } from "./api.js";
import { html } from "./dom.js";

// A reason often begins with the path, which is shown already.
function reasonOf(letter) {
  const path = letter.relative_path;
  const reason = letter.error_message.startsWith(`${path}: `) ? letter.error_message.slice(path.length + 2) : letter.error_message;
  return reason || letter.error_type;
}

// The letters' names are sent in parts that the bridge takes.
const MOST = 500;

// Sends letters back; returns what became of each, in words, by name.
export async function sendBack(names) {
  const said = new Map();
  for (let start = 0; start < names.length; start += MOST) {
    const answer = await need("POST", "/v1/dead-letters/replay", { letters: names.slice(start, start + MOST) });
    for (const name of answer.sent) said.set(name, "sent back");
    for (const name of answer.sent_before) said.set(name, "sent back before");
    for (const one of answer.refused) said.set(one.name, one.reason);
  }
  return said;
}

// A letter as an item of a list, with a button that sends it back where that may be.
export function letterItem(letter) {
  const outcome = html("span", { class: "outcome", role: "status" }, letter.sent_back ? "sent back" : letter.refusal);
  const item = html("li", { class: "new", "data-letter": letter.name, title: letter.error_type },
    html("div", { class: "letter" },
      html("bdi", { class: "path" }, letter.relative_path || "a message without a path"), html("span", {}, reasonOf(letter)),
      html("span", { class: "soft" }, letter.stage, letter.replays ? `, sent back ${letter.replays === 1 ? "once" : `${letter.replays} times`} before` : null,
      " · ", html("time", { datetime: letter.time }, when(letter.time))),
      outcome));
  if (letter.sent_back || letter.refusal) return item;
  const button = html("button", { type: "button", class: "small" }, "Send back",
    html("span", { class: "unseen" }, ` ${letter.relative_path}`));
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      settle(item, (await sendBack([letter.name])).get(letter.name));
    } catch (error) {
      button.disabled = false;
      outcome.textContent = error.message;
    }
  });
  item.append(button);
  return item;
}

// Shows what became of an item's letter.
export function settle(item, words) {
  item.querySelector(".outcome").textContent = words;
  item.querySelector("button")?.remove();
  item.dispatchEvent(new Event("settled", { bubbles: true }));
}
