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

watch(at("alerts"), at("none"), (open) => { state.open = open; tell(); });
follow(at("stages"), (trouble) => { state.trouble = trouble || ""; tell(); });
listen(at("file"), at("answer"));
