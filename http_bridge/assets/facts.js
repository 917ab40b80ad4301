// File facts of two images, side by side, with the better one marked, and what their producer says of them.

import { when } from "./api.js";
import { html } from "./dom.js";
import { sides } from "./sides.js";

const RELATIONS = {
  identical: "the same bytes", same: "the same picture", crop: "a part of it", contains: "shows more than it",
  overlap: "shares a part with it", blank: "blank, too", "": "called different by somebody",
};

export function size(bytes) {
  if (!bytes) return "";
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 1e6 ? `${Math.round(bytes / 1000)} KB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

export const relation = (name) => RELATIONS[name] ?? name;

const pixels = (one) => one.width * one.height;
// sizes this close count as equal, as for the suggestion
const EQUAL = 0.98;

// -1: the left one is better; 1: the right one; 0: neither.
function larger(left, right) {
  if (!left || !right) return 0;
  return left < EQUAL * right ? 1 : right < EQUAL * left ? -1 : 0;
}

const sameKind = (left, right) => left.format === right.format && !larger(pixels(left), pixels(right));

const ROWS = [
  ["Dimensions", (one) => (one.width ? `${one.width.toLocaleString("en")} × ${one.height.toLocaleString("en")}` : ""),
    (left, right) => larger(pixels(left), pixels(right))],
  ["File size", (one) => size(one.bytes), (left, right) => (sameKind(left, right) ? larger(left.bytes, right.bytes) : 0)],
  ["Format", (one) => one.format, () => 0],
  ["Changed", (one) => when(one.modified),
    (left, right) => (left.modified && right.modified && when(left.modified) !== when(right.modified)
      ? Math.sign(left.modified.localeCompare(right.modified)) : 0)],
];

function cell(text, better) {
  return html("td", { class: better ? "better" : null }, text || "not known",
    better ? html("span", { class: "mark" }, " ✓", html("span", { class: "unseen" }, " better")) : null);
}

// What the producer says of one image, under a label for screen readers; null where it says nothing.
export function told(label, metadata) {
  const said = Object.entries(metadata);
  if (!said.length) return null;
  return html("ul", { class: "told", "aria-label": label }, ...said.map(([name, value]) =>
    html("li", {}, html("bdi", { class: "soft" }, name), " ", html("bdi", {}, value))));
}

// Rows of what the producer says of either image.
function toldRows(left, right) {
  const names = [...new Set([left, right].flatMap((one) => Object.keys(one.metadata ?? {})))];
  if (!names.length) return null;
  // of an image of another group it is not known
  const value = (one, name) => html("td", {}, html("bdi", {}, one.metadata ? one.metadata[name] ?? "–" : "not known"));
  const rows = names.map((name) => html("tr", {}, html("th", { scope: "row" }, html("bdi", {}, name)), value(left, name), value(right, name)));
  return html("tbody", { class: "told" }, html("tr", {}, html("th", { scope: "rowgroup", colspan: 3 }, "Metadata")), ...rows);
}

// A table of two images; each as a group's answer has its members. `kept` says what the one to keep is.
export function facts(left, right, kept) {
  const rows = ROWS.map(([name, text, better]) => {
    const side = better(left, right);
    return html("tr", {}, html("th", { scope: "row" }, name), cell(text(left), side < 0), cell(text(right), side > 0));
  });
  const name = (one, side) => html("th", { scope: "col" }, html("span", { class: "soft" }, `${side} `),
    html("bdi", {}, one.relative_path), one.keep ? html("span", { class: "pill good" }, kept) : null);
  const [one, other] = sides();
  return html("table", { class: "facts" },
    html("thead", {}, html("tr", {}, html("td", {}, html("span", { class: "unseen" }, "fact")), name(left, one), name(right, other))),
    html("tbody", {}, ...rows), toldRows(left, right));
}
