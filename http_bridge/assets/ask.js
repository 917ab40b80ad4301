// Finds the duplicates of an image that is chosen, dropped or pasted.

import { html } from "./dom.js";
import { alike, folded, pair, pairs } from "./pair.js";

let newest = 0;
let newestUrl = null;

async function ask(file, place) {
  const number = ++newest;
  if (newestUrl) URL.revokeObjectURL(newestUrl);
  newestUrl = URL.createObjectURL(file);
  const url = newestUrl;
  const name = file.name || "the image";
  place.replaceChildren(html("p", {}, "Looking for ", html("bdi", {}, name), " …"));
  place.setAttribute("aria-busy", "true");
  const nodes = await search(file, url, name);
  if (number !== newest) return;
  place.replaceChildren(...nodes);
  place.removeAttribute("aria-busy");
}

async function search(file, url, name) {
  try {
    const headers = { "Content-Type": "application/octet-stream", Accept: "application/json" };
    const answer = await fetch("/v1/duplicates", { method: "POST", body: file, headers });
    const body = await answer.json();
    if (!answer.ok) return [html("p", { class: "trouble" }, body.error_message)];
    return results(body, url, name);
  } catch (error) {
    return [html("p", { class: "trouble" }, "The bridge did not answer; try again.")];
  }
}

function results(body, url, name) {
  const found = body.response.duplicated;
  const notes = body.error_message ? [html("p", { class: "soft" }, body.error_message)] : [];
  const similar = body.response.similar;
  if (similar.length) {
    const summary = similar.length === 1 ? "One image is alike, and no duplicate" : `${similar.length} images are alike, and no duplicates`;
    notes.push(folded(summary, () => similar.map((one) => alike(url, name, null, one))));
  }
  if (!found.length) {
    return [html("div", { class: "none" }, html("p", {}, "No duplicate."),
      html("p", { class: "soft" }, "No image in the collection shows the same picture as ", html("bdi", {}, name), ".")), ...notes];
  }
  const title = found.length === 1 ? "One duplicate of " : `${found.length} duplicates of `;
  return [html("article", { class: "card" }, html("header", {}, html("h3", {}, title, html("bdi", {}, name))),
    ...pairs(found, (one) => pair(url, name, null, one), 3)), ...notes];
}

const first = (list) => [...(list ?? [])].find((item) => item instanceof File);

export function listen(input, place) {
  input.addEventListener("change", () => {
    const file = first(input.files);
    if (file) ask(file, place);
    // so that choosing the same file again is a change
    input.value = "";
  });
  addEventListener("paste", (event) => {
    const file = first(event.clipboardData?.files);
    if (file) ask(file, place);
  });
  addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("over");
  });
  addEventListener("dragleave", (event) => event.relatedTarget ?? document.body.classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    const file = first(event.dataTransfer?.files);
    if (file) ask(file, place);
  });
}
