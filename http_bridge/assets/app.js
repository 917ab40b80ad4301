import { watch } from "./alerts.js";
import { listen } from "./ask.js";
import { follow } from "./stages.js";

const byId = (name) => document.getElementById(name);
const state = { open: false, trouble: "" };

function showConnection() {
  const link = byId("link");
  const live = state.open && !state.trouble;
  link.textContent = live ? "live" : state.trouble ? "interrupted" : "connecting …";
  link.className = `pill ${live ? "good" : state.trouble ? "bad" : ""}`;
  byId("trouble").hidden = !state.trouble;
  if (byId("trouble").textContent !== state.trouble) byId("trouble").textContent = state.trouble;
}

function showCount(letters) {
  if (!letters) return;
  byId("aside").hidden = false;
  byId("dead-count").textContent = letters === 1 ? "One announcement." : `${letters.toLocaleString("en")} announcements.`;
}

watch(byId("alerts"), byId("none"), byId("dead"), (open) => { state.open = open; showConnection(); }, () => { byId("aside").hidden = false; });
follow(byId("stages"), (trouble) => { state.trouble = trouble || ""; showConnection(); }, showCount);
listen(byId("file"), byId("answer"));
