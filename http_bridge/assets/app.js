import { watch } from "./alerts.js";
import { listen } from "./ask.js";
import { follow } from "./stages.js";

const at = (name) => document.getElementById(name);
const state = { open: false, trouble: "" };

function tell() {
  const link = at("link");
  const well = state.open && !state.trouble;
  link.textContent = well ? "live" : state.trouble ? "interrupted" : "connecting …";
  link.className = `pill ${well ? "good" : state.trouble ? "bad" : ""}`;
  at("trouble").hidden = !state.trouble;
  if (at("trouble").textContent !== state.trouble) at("trouble").textContent = state.trouble;
}

function count(letters) {
  if (!letters) return;
  at("aside").hidden = !letters;
  at("dead-count").textContent = letters === 1 ? "One announcement." : `${letters.toLocaleString("en")} announcements.`;
}

watch(at("alerts"), at("none"), at("dead"), (open) => { state.open = open; tell(); }, () => { at("aside").hidden = false; });
follow(at("stages"), (trouble) => { state.trouble = trouble || ""; tell(); }, count);
listen(at("file"), at("answer"));
