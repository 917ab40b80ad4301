// The desk: one group after the other, until none waits.

import { ask, inUrl, need } from "./api.js";
import { keepSuggested } from "./bulk.js";
import { Decisions, inWords, setWho, who } from "./decide.js";
import { history } from "./history.js";
import { GroupView } from "./group.js";
import { onKeys } from "./keys.js";
import { Queue } from "./queue.js";

const byId = (name) => document.getElementById(name);
const SOON_MS = 400;
// how long to wait until the grouping stage has put a group together again
const BACK_MS = 6000;
const LOOK_MS = 300;

const queue = new Queue();
const decisions = new Decisions();
const view = new GroupView(byId, { act, undo, later: undoLater });
let [running, answered, refreshing] = [Promise.resolve(), false, 0];
// why the pair stays in place: "said" something of it, or "changed"; null: it does not
let held = null;

function tell(text) {
  byId("notice").hidden = !text;
  byId("notice").textContent = text;
}

function trouble(text) {
  byId("trouble").hidden = !text;
  byId("trouble").textContent = text;
}

function filters() {
  const found = Object.fromEntries(new FormData(byId("filters")));
  // the one image of a group that is in doubt is no file like others
  return { ...found, min_score: Number(found.min_score) || "", min_members: found.relation === "identical" ? 2 : "" };
}

function count() {
  const state = byId("filters").elements.state;
  const n = queue.count;
  const words = { open: "waiting", later: "put off", decided: "decided", all: "in all" };
  byId("count").textContent = `${n.toLocaleString("en")} ${n === 1 ? "group" : "groups"} ${words[state.value]}`;
  const { state: shown, relation } = filters();
  byId("bulk").hidden = !(n && shown === "open" && relation === "identical");
}

// Runs one thing after the other, and shows what went wrong.
function doing(work) {
  running = running.then(work).then(() => trouble(""), (error) => {
    trouble(error instanceof TypeError ? "The bridge does not answer; try again." : error.message);
  });
  return running;
}

// The same for what a person asks for: a second key while the first still works is no answer to what it shows next.
async function answering(work) {
  if (answered) return;
  answered = true;
  await doing(work);
  answered = false;
}

async function open(id) {
  if (id === null) view.hide();
  else view.show(await need("GET", `/v1/groups/${inUrl(id)}`));
  release();
  const { state, relation, min_score: score, search } = filters();
  const filtered = state !== "open" || relation || score || search;
  byId("none").hidden = id !== null || filtered;
  byId("none-fits").hidden = id !== null || !filtered;
  count();
  if (id === null && filtered) await countOthers();
}

async function countOthers() {
  const { total } = await need("GET", "/v1/groups?state=open&later=no&limit=1");
  byId("others-wait").textContent = total === 1 ? "One group waits." : `${total.toLocaleString("en")} groups wait.`;
}

// Keeps the pair in place, since somebody else has done something: no key may mean another pair than the one seen.
function hold(why, text) {
  held = why;
  view.hold(true);
  byId("held-says").textContent = text;
  byId("held").hidden = false;
}

function release() {
  held = null;
  view.hold(false);
  byId("held").hidden = true;
}

// Leaves the pair that was kept in place.
function goOn() {
  if (held === null) return null;
  return answering(async () => {
    const { status, body } = await ask("GET", `/v1/groups/${inUrl(view.id)}`);
    if (status === 200 && body.response.state === "open" && view.pending(body.response)) {
      view.show(body.response);
      release();
    } else {
      queue.done.add(view.id);
      await openNext();
    }
    view.focus();
  });
}

// What somebody else said.
async function heard(one) {
  if (decisions.numbers.has(one.number) || !view.concerns(one)) return;
  const paths = one.images.map((image) => image.relative_path).join(", ");
  const text = `${one.who || "Somebody"}: ${inWords(one)} (${paths})`;
  const same = view.compares(one);
  if (same && one.decision !== null && one.decision !== "later") {
    // the question that is open names the decision, too
    if (!byId("conflict").hidden) return null;
    view.settled();
    return hold("said", `${one.who || "Somebody"} has just decided on this pair: ${inWords(one)}.`);
  }
  tell(text);
  if (same && one.decision === null) {
    held = null;
    view.forget(one.images);
  }
  return lookAgain();
}

// Shows what became of the group, unless another pair would be seen then.
async function lookAgain() {
  const { status, body } = await ask("GET", `/v1/groups/${inUrl(view.id)}`);
  // of one that has ended its own event tells
  if (status !== 200 || held === "said") return;
  if (!view.keeps(body.response)) return hold("changed", "This group has changed: another pair comes now.");
  view.show(body.response);
  release();
}

async function changed(group) {
  // another one may be shown by now
  if (group.id !== view.id || held === "said") return;
  if (group.member_count) return lookAgain();
  hold("changed", group.event === "merged" ? `This group is now part of ${group.into}.` : "This group has ended.");
}

async function openNext() {
  await open(await queue.next(view.id ?? ""));
}

async function restart() {
  await queue.load(filters());
  await open(queue.waiting[0]?.id ?? null);
}

async function showHistory() {
  const page = await need("GET", "/v1/decisions?limit=30");
  byId("history").replaceChildren(...history(page.decisions, undoLater));
}

// Says something of the group or of the pair that is compared; `expected` where the person has seen another's word.
function act(name, expected) {
  // of what is seen now, not of what is shown when it is its turn
  const [decision, id] = [view.decision(name), view.id];
  if (!decision) return null;
  return answering(async () => {
    const result = await decisions.say([{ ...decision, expected: expected ?? decision.expected }], id);
    if (result.conflicts) return clash(name, result.conflicts);
    const other = result.overtook?.[0];
    if (!result.overtook) tell("Stored. Whether somebody said something else in the same moment is not known yet.");
    else tell(other ? `${other.who || "Somebody"} said ${inWords(other)} in the same moment; yours holds now. U undoes it.` : "");
    if (view.id !== id || view.said(name, result.made[0])) return;
    queue.done.add(id);
    await openNext();
    view.focus();
  });
}

function clash(name, conflicts) {
  const last = conflicts[conflicts.length - 1];
  const names = last.images.slice(0, 2).map((one) => one.relative_path).join(" and ");
  byId("conflict-says").textContent = `${last.who || "Somebody"} said “${inWords(last)}” of ${names} meanwhile.`;
  byId("conflict").hidden = false;
  byId("insist").onclick = () => { byId("conflict").hidden = true; release(); act(name, last.number); };
  byId("yield").onclick = () => { byId("conflict").hidden = true; doing(async () => open(view.id)); };
  byId("yield").focus();
}

// Takes back the last step of this page.
function undo() {
  return answering(async () => {
    const step = decisions.steps.pop();
    if (!step) return tell("Nothing to undo: this page has decided nothing yet.");
    await takeBack(step.made, step.group);
  });
}

function undoLater(made) {
  return answering(() => takeBack(made, made[0].group || view.id));
}

// Takes back decisions, and shows the group that they were made in if it waits again.
async function takeBack(made, group) {
  const result = await decisions.undo(made);
  if (result.conflicts) return tell(`Not undone: ${result.conflicts[0].who || "somebody"} has said ${inWords(result.conflicts[0])} since.`);
  const undone = made.length === 1 ? `Undone: ${inWords(made[0])}.` : `Undone: ${made.length} decisions.`;
  tell(undone);
  queue.done.delete(group);
  view.unsaid(made.flatMap((one) => one.images));
  const back = group !== null && await comesBack(group, undone);
  await queue.refresh();
  await open(back ? group : queue.groups.some((one) => one.id === view.id) ? view.id : await queue.next(view.id ?? ""));
}

// Waits until a group waits again, which takes the grouping stage a moment; whether it does.
async function comesBack(id, undone) {
  const end = Date.now() + BACK_MS;
  while (Date.now() < end) {
    const { status, body } = await ask("GET", `/v1/groups/${inUrl(id)}`);
    if (status === 200 && body.response.state === "open") {
      tell(undone);
      return true;
    }
    tell(`${undone} Its group comes back in a moment …`);
    await new Promise((resolve) => { setTimeout(resolve, LOOK_MS); });
  }
  tell(`${undone} Its group is not back yet; it comes among those that wait.`);
  return false;
}

async function bulk() {
  const n = queue.count.toLocaleString("en");
  if (!confirm(`Decide on ${n} groups of identical files: keep the suggested file of each? No file is deleted.`)) return;
  const progress = (done) => { byId("count").textContent = `${done.toLocaleString("en")} decided …`; };
  const { decided, left } = await keepSuggested(filters(), decisions, progress);
  tell(`${decided.toLocaleString("en")} groups decided.${left ? ` ${left} are left: somebody has said something else, or they have changed.` : ""}`);
  await restart();
}

// What others do is seen at once; a burst of events is one look.
function refreshSoon() {
  clearTimeout(refreshing);
  refreshing = setTimeout(() => doing(async () => {
    await queue.refresh();
    await showHistory();
    if (view.id === null && queue.waiting.length) await openNext();
    count();
  }), SOON_MS);
}

function listen() {
  const source = new EventSource("/v1/duplicates/stream");
  const live = (open) => {
    byId("link").textContent = open ? "live" : "connecting …";
    byId("link").className = `pill ${open ? "good" : ""}`;
  };
  source.onopen = () => { live(true); refreshSoon(); };
  source.onerror = () => live(false);
  source.addEventListener("group", (event) => {
    const group = JSON.parse(event.data);
    queue.done.delete(group.id);
    refreshSoon();
    doing(() => changed(group));
  });
  source.addEventListener("decision", (event) => {
    const one = JSON.parse(event.data);
    refreshSoon();
    doing(() => heard(one));
  });
}

if (matchMedia("(max-width: 40rem)").matches) byId("which").open = false;
byId("who").value = who();
byId("who").addEventListener("change", () => setWho(byId("who").value));
byId("who").addEventListener("keydown", (event) => event.key === "Enter" && byId("group").focus());
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("filters").addEventListener("change", (event) => event.target.id !== "who" && doing(restart));
byId("all-groups").addEventListener("click", () => { byId("filters").reset(); byId("who").value = who(); doing(restart); });
byId("go-on").addEventListener("click", goOn);
onKeys(byId("shortcuts"), { G: goOn });
byId("bulk").addEventListener("click", () => answering(bulk));
doing(async () => { await restart(); await showHistory(); });
listen();
