// Decisions with who and when, the newest first; what is in force can be undone.

import { when } from "./api.js";
import { inWords } from "./decide.js";
import { html } from "./dom.js";

function line(one, onUndo) {
  const paths = one.images.slice(0, 2).map((image) => html("bdi", {}, image.relative_path));
  const more = one.images.length - paths.length;
  const joined = paths.flatMap((path, n) => (n ? [more > 0 ? ", " : " and ", path] : [path]));
  const undo = html("button", { type: "button", class: "small" }, "Undo",
    html("span", { class: "unseen" }, ` ${inWords(one)} of ${one.images[0]?.relative_path ?? ""}`));
  undo.addEventListener("click", () => onUndo([one]));
  return html("li", { class: one.in_force ? null : "past" },
    html("span", {}, html("b", {}, one.who || "somebody"), `: ${inWords(one)}`, one.note ? ` (${one.note})` : null),
    html("span", { class: "soft" }, ...joined, more > 0 ? ` and ${more} more` : null),
    html("time", { class: "soft", datetime: one.when }, when(one.when)),
    one.in_force ? undo : null);
}

export function history(decisions, onUndo) {
  if (!decisions.length) return [html("li", { class: "soft" }, "Nobody has decided anything yet.")];
  return decisions.map((one) => line(one, onUndo));
}
