// Shows each stage's lag and rate, now and over the last two minutes, and why its processes wait or died.

import { html, svg } from "./dom.js";

const EVERY_MS = 2000;
const MAX_SAMPLES = 60;
const history = new Map();

function chart(values, kind, label) {
  const top = Math.max(1, ...values);
  const points = values.map((v, n) => `${(200 * (n + MAX_SAMPLES - values.length)) / (MAX_SAMPLES - 1)},${40 - (38 * v) / top}`).join(" ");
  return svg("svg", { class: "chart", viewBox: "0 0 200 40", preserveAspectRatio: "none", role: "img", "aria-label": label },
    svg("line", { class: "floor", x1: 0, y1: 40, x2: 200, y2: 40 }), svg("polyline", { class: kind, points }));
}

const VERBS = { starting: "is starting", waiting: "waits", died: "died" };

// A process that runs and was never restarted is not shown.
function processLine(one) {
  const again = one.restarts ? `, started again ${one.restarts === 1 ? "once" : `${one.restarts} times`}` : "";
  if (!(one.state in VERBS) && !one.restarts) return null;
  const text = `${one.process} ${VERBS[one.state] ?? "runs"}${again}${one.reason ? `: ${one.reason}` : ""}`;
  return html("li", { class: ["waiting", "died"].includes(one.state) ? "bad" : null }, text);
}

function stageCard(stage) {
  const past = history.get(stage.stage);
  const number = (value) => Math.round(value).toLocaleString("en");
  const lines = (stage.states ?? []).map(processLine).filter((one) => one !== null);
  const processes = stage.processes === 1 ? "1 process" : `${stage.processes} processes`;
  return html("div", { class: "stage" },
    html("h3", {}, stage.stage, html("span", {}, stage.processes ? processes : "no process runs")),
    html("div", { class: "charts" },
      html("div", {}, html("p", {}, html("b", {}, number(stage.rate)), " a second"),
        chart(past.map((one) => one.rate), "rate", `rate, the last two minutes; now ${number(stage.rate)} a second`)),
      html("div", {}, html("p", {}, html("b", {}, number(stage.lag)), " waiting"),
        chart(past.map((one) => one.lag), "lag", `lag, the last two minutes; now ${number(stage.lag)} waiting`))),
    lines.length ? html("ul", { class: "doing" }, ...lines) : null);
}

function record(stages) {
  for (const stage of stages) {
    const past = history.get(stage.stage) ?? [];
    history.set(stage.stage, [...past, stage].slice(-MAX_SAMPLES));
  }
}

// Polls the status forever; calls `onTrouble` with an error message, empty if there is none, and `onDead` with the number
// of dead letters.
export async function follow(place, onTrouble, onDead) {
  for (;;) {
    try {
      const answer = await fetch("/v1/status", { headers: { Accept: "application/json" } });
      const body = await answer.json();
      const stages = body.response.stages ?? [];
      onTrouble(body.error_message && `Kafka cannot be used: ${body.error_message}. This page reconnects by itself.`);
      onDead(body.response.dead_letters?.count);
      record(stages);
      if (stages.length) place.replaceChildren(...stages.map(stageCard));
      else place.replaceChildren(html("p", { class: "soft" }, "The state of the stages is not known at the moment."));
    } catch (error) {
      onTrouble("The bridge does not answer. This page reconnects by itself.");
    }
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
  }
}
