// Lag and rate of each stage, as numbers and as the last two minutes, and what its processes wait for or died of.

import { html, svg } from "./dom.js";

const EVERY_MS = 2000;
const KEPT = 60;
const history = new Map();

function chart(values, kind, label) {
  const top = Math.max(1, ...values);
  const points = values.map((v, n) => `${(200 * (n + KEPT - values.length)) / (KEPT - 1)},${40 - (38 * v) / top}`).join(" ");
  return svg("svg", { class: "chart", viewBox: "0 0 200 40", preserveAspectRatio: "none", role: "img", "aria-label": label },
    svg("line", { class: "floor", x1: 0, y1: 40, x2: 200, y2: 40 }), svg("polyline", { class: kind, points }));
}

const DOES = { starting: "is starting", waiting: "waits", died: "died" };

// What is worth saying of a process: nothing of one that just runs.
function doing(one) {
  const again = one.restarts ? `, started again ${one.restarts === 1 ? "once" : `${one.restarts} times`}` : "";
  if (!(one.state in DOES) && !one.restarts) return null;
  const says = `${one.process} ${DOES[one.state] ?? "runs"}${again}${one.reason ? `: ${one.reason}` : ""}`;
  return html("li", { class: ["waiting", "died"].includes(one.state) ? "bad" : null }, says);
}

function standing(stage) {
  const past = history.get(stage.stage);
  const number = (value) => Math.round(value).toLocaleString("en");
  const said = (stage.states ?? []).map(doing).filter((one) => one !== null);
  const processes = stage.processes === 1 ? "1 process" : `${stage.processes} processes`;
  return html("div", { class: "standing" },
    html("h3", {}, stage.stage, html("span", {}, stage.processes ? processes : "no process runs")),
    html("div", { class: "charts" },
      html("div", {}, html("p", {}, html("b", {}, number(stage.rate)), " a second"),
        chart(past.map((one) => one.rate), "rate", `rate, the last two minutes; now ${number(stage.rate)} a second`)),
      html("div", {}, html("p", {}, html("b", {}, number(stage.lag)), " waiting"),
        chart(past.map((one) => one.lag), "lag", `lag, the last two minutes; now ${number(stage.lag)} waiting`))),
    said.length ? html("ul", { class: "doing" }, ...said) : null);
}

function note(stages) {
  for (const stage of stages) {
    const past = history.get(stage.stage) ?? [];
    history.set(stage.stage, [...past, stage].slice(-KEPT));
  }
}

// Asks for ever; calls `onTrouble` with what is wrong, empty while all is well, and `onDead` with how many dead letters.
export async function follow(place, onTrouble, onDead) {
  for (;;) {
    try {
      const answer = await fetch("/v1/status", { headers: { Accept: "application/json" } });
      const body = await answer.json();
      const stages = body.response.stages ?? [];
      onTrouble(body.error_message && `Kafka cannot be used: ${body.error_message}. This page goes on by itself when it is back.`);
      onDead(body.response.dead_letters?.count);
      note(stages);
      if (stages.length) place.replaceChildren(...stages.map(standing));
      else place.replaceChildren(html("p", { class: "soft" }, "Nothing is known of them at the moment."));
    } catch (error) {
      onTrouble("The bridge does not answer. This page goes on by itself when it is back.");
    }
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
  }
}
