// An image that is chosen, dropped or pasted: what does it duplicate?

import { html } from "./dom.js";
import { pair, pairs } from "./pair.js";

let newest = 0;
let address = null;

async function ask(file, place) {
  const turn = ++newest;
  if (address) URL.revokeObjectURL(address);
  address = URL.createObjectURL(file);
  const own = address;
  const name = file.name || "the image";
  place.replaceChildren(html("p", {}, "Looking for ", html("bdi", {}, name), " …"));
  place.setAttribute("aria-busy", "true");
  const nodes = await answerTo(file, own, name);
  if (turn !== newest) return;
  place.replaceChildren(...nodes);
  place.removeAttribute("aria-busy");
}

async function answerTo(file, own, name) {
  try {
    const headers = { "Content-Type": "application/octet-stream", Accept: "application/json" };
    const answer = await fetch("/v1/duplicates", { method: "POST", body: file, headers });
    const body = await answer.json();
    if (!answer.ok) return [html("p", { class: "trouble" }, body.error_message)];
    return told(body, own, name);
  } catch (error) {
    return [html("p", { class: "trouble" }, "The bridge did not answer; try again.")];
  }
}

function told(body, own, name) {
  const found = body.response.duplicated;
  const said = body.error_message ? [html("p", { class: "soft" }, body.error_message)] : [];
  if (!found.length) {
    return [html("div", { class: "none" }, html("p", {}, "No duplicate."),
      html("p", { class: "soft" }, "Nothing in the collection shows the picture of ", html("bdi", {}, name), ".")), ...said];
  }
  const title = found.length === 1 ? "One duplicate of " : `${found.length} duplicates of `;
  return [html("article", { class: "card" }, html("header", {}, html("h3", {}, title, html("bdi", {}, name))),
    ...pairs(found, (one) => pair(own, name, null, one), 3)), ...said];
}

const first = (list) => [...(list ?? [])].find((item) => item instanceof File);

export function listen(input, place) {
  input.addEventListener("change", () => {
    const file = first(input.files);
    if (file) ask(file, place);
    // the same file may be chosen again
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
