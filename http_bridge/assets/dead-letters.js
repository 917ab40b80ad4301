// The page of dead letters: page by page, with filters, the newest first.

import { need } from "./api.js";
import { letterItem, sendBack, settle } from "./letters.js";

const PAGE = 50;
const RELOAD_MS = 1000;
const byId = (name) => document.getElementById(name);
const form = byId("filters");
let cursor = null;
let waiting = null;
let request = 0;

function say(place, text) {
  place.textContent = text;
  place.hidden = !text;
}

const sendable = () => [...byId("letters").children].filter((item) => item.querySelector("button"));

function showAll() {
  const count = sendable().length;
  byId("all").hidden = count < 2;
  byId("all").textContent = `Send back all ${count} shown`;
}

async function read(after) {
  const mine = ++request;
  const query = new URLSearchParams({ limit: PAGE });
  for (const [name, value] of new FormData(form)) if (value.trim()) query.set(name, value.trim());
  if (after) query.set("cursor", after);
  try {
    const page = await need("GET", `/v1/dead-letters?${query}`);
    // of two that overtake each other, the later one counts
    if (mine !== request) return;
    say(byId("trouble"), "");
    const items = page.letters.map(letterItem);
    if (after) byId("letters").append(...items);
    else byId("letters").replaceChildren(...items);
    cursor = page.cursor;
    byId("count").textContent = page.total ? `${page.total.toLocaleString("en")} ${page.total === 1 ? "letter" : "letters"}` : "No dead letter.";
    byId("more").hidden = cursor === null;
    showAll();
  } catch (error) {
    say(byId("trouble"), error.message);
    if (mine === request) later(() => read(after));
  }
}

function later(act) {
  clearTimeout(waiting);
  waiting = setTimeout(act, RELOAD_MS);
}

byId("all").addEventListener("click", async () => {
  const items = sendable();
  byId("all").disabled = true;
  try {
    const said = await sendBack(items.map((item) => item.dataset.letter));
    for (const item of items) settle(item, said.get(item.dataset.letter));
    const sent = [...said.values()].filter((words) => words === "sent back").length;
    say(byId("notice"), `${sent} of ${items.length} sent back.`);
  } catch (error) {
    say(byId("notice"), error.message);
  }
  byId("all").disabled = false;
  showAll();
});
byId("letters").addEventListener("settled", showAll);
byId("more").addEventListener("click", () => read(cursor));
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("input", () => later(() => read(null)));
const source = new EventSource("/v1/duplicates/stream?recent=0");
source.onopen = () => { byId("link").textContent = "live"; byId("link").className = "pill good"; };
source.onerror = () => { byId("link").textContent = "interrupted"; byId("link").className = "pill bad"; };
// what somebody reads further down stays where it is
source.addEventListener("dead-letter", () => {
  if (byId("letters").children.length <= PAGE) later(() => read(null));
  else say(byId("notice"), "There are new letters: change the filters, or load the page again.");
});
read(null);
