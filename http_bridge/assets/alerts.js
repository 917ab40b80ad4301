// Shows alerts and dead letters, the newest first.

import { need, when } from "./api.js";
import { html, pictureOf } from "./dom.js";
import { told } from "./facts.js";
import { letterItem, settle } from "./letters.js";
import { pair, pairs } from "./pair.js";

const MAX_ALERTS = 100;
const MAX_DEAD_LETTERS = 10;
// an event does not say what was sent back since: the list does, once it holds the letter
const LOOK_MS = 300;
const AGAIN_MS = 2000;
const seen = new Set();
let looking = 0;

function card(alert) {
  const make = (found) => pair(pictureOf(alert.candidate, 640), alert.candidate, pictureOf(alert.candidate, 2048), found);
  return html("article", { class: "card new", tabindex: 0, "aria-label": `${alert.candidate} duplicates ${alert.duplicated[0].relative_path}` },
    html("header", {}, html("h3", {}, html("bdi", {}, alert.candidate)),
      html("time", { datetime: alert.time }, when(alert.time))),
    told("Metadata", alert.metadata), told("Headers", alert.headers),
    ...pairs(alert.duplicated, make));
}

async function settleSent(dead) {
  try {
    const { letters } = await need("GET", `/v1/dead-letters?limit=${3 * MAX_DEAD_LETTERS}`);
    const sent = new Set(letters.filter((one) => one.sent_back).map((one) => one.name));
    for (const item of dead.children) if (sent.has(item.dataset.letter) && item.querySelector("button")) settle(item, "sent back");
  } catch (error) {
    // the bridge still reads the topic, or is away
    settleSoon(dead, AGAIN_MS);
  }
}

function settleSoon(dead, wait) {
  clearTimeout(looking);
  looking = setTimeout(() => settleSent(dead), wait);
}

// Calls `onOpen` with whether the stream is open, and `onDead` for each dead letter.
export function watch(list, none, dead, onOpen, onDead) {
  const source = new EventSource("/v1/duplicates/stream?recent=30");
  source.onopen = () => onOpen(true);
  source.onerror = () => onOpen(false);
  source.addEventListener("alert", (event) => {
    if (seen.has(event.lastEventId)) return;
    seen.add(event.lastEventId);
    none.hidden = true;
    list.prepend(card(JSON.parse(event.data)));
    while (list.children.length > MAX_ALERTS) list.lastChild.remove();
  });
  source.addEventListener("dead-letter", (event) => {
    if (seen.has(event.lastEventId)) return;
    seen.add(event.lastEventId);
    dead.prepend(letterItem(JSON.parse(event.data)));
    while (dead.children.length > MAX_DEAD_LETTERS) dead.lastChild.remove();
    settleSoon(dead, LOOK_MS);
    onDead();
  });
}
