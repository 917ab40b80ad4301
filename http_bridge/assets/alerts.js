// Alerts as they come, the newest first.

import { html, pictureOf } from "./dom.js";
import { pair, pairs } from "./pair.js";

const KEPT = 100;
const seen = new Set();

function card(alert) {
  const time = new Date(alert.time);
  const make = (found) => pair(pictureOf(alert.candidate, 640), alert.candidate, pictureOf(alert.candidate, 2048), found);
  return html("article", { class: "card new", tabindex: 0, "aria-label": `${alert.candidate} duplicates ${alert.duplicated[0].relative_path}` },
    html("header", {}, html("h3", {}, html("bdi", {}, alert.candidate)),
      html("time", { datetime: alert.time }, time.toLocaleTimeString())),
    ...pairs(alert.duplicated, make));
}

// Calls `onLink` with whether the stream is open.
export function watch(list, none, onLink) {
  const source = new EventSource("/v1/duplicates/stream?recent=30");
  source.onopen = () => onLink(true);
  source.onerror = () => onLink(false);
  source.addEventListener("alert", (event) => {
    if (seen.has(event.lastEventId)) return;
    seen.add(event.lastEventId);
    none.hidden = true;
    list.prepend(card(JSON.parse(event.data)));
    while (list.children.length > KEPT) list.lastChild.remove();
  });
}
