// One group: its images, two of which are compared, and what can be said of them.

import { html, pictureOf } from "./dom.js";
import { facts, relation } from "./facts.js";
import { history } from "./history.js";
import { onKeys } from "./keys.js";
import { besideInWords, onTurn, sides } from "./sides.js";
import { mapOf, MODES, Viewer } from "./viewer.js";

// name, key, words, what the key does to a pair
const ACTIONS = [
  ["left", "L", () => `Keep ${sides()[0]}`], ["right", "R", () => `Keep ${sides()[1]}`], ["both", "B", () => "Keep both"],
  ["different", "N", () => "Not a duplicate"], ["group", "A", () => `Keep ${sides()[0]} of all`],
  ["later", "W", () => "Later"], ["undo", "U", () => "Undo"],
];
const THUMB = 160;
const MOST_THUMBS = 60;
// images of one decision
const MOST_DECIDED = 5000;

export class GroupView {
  id = null;
  #group = null;
  #others = [];
  #left = null;
  #right = null;
  #held = false;
  // whether it is known how one picture lies over the other, and the view that the person wants
  #aligned = false;
  #wanted = "beside";
  // what this page has said something of, by pairName
  #said = new Set();
  #byId;
  #viewer;

  constructor(byId, { act, undo, later }) {
    this.#byId = byId;
    this.#viewer = new Viewer(byId("viewer"), byId("slider"));
    this.undoLater = later;
    const run = (name) => (name === "undo" ? undo() : act(name));
    const button = ([name, key, words]) => {
      const made = html("button", { type: "button", id: `do-${name}`, "aria-keyshortcuts": key }, html("span", {}, words()), " ", html("kbd", {}, key));
      made.addEventListener("click", () => run(name));
      return made;
    };
    byId("actions").replaceChildren(...ACTIONS.map(button));
    const beside = () => { byId("mode").querySelector("[value=beside]").textContent = besideInWords(); };
    beside();
    onTurn(() => {
      beside();
      for (const [name, , words] of ACTIONS) byId(`do-${name}`).firstChild.textContent = words();
      if (this.id !== null) this.#compare();
    });
    byId("mode").addEventListener("change", () => this.#setMode(byId("mode").value));
    byId("outline").addEventListener("change", () => this.#viewer.outline(byId("outline").checked));
    byId("closer").addEventListener("click", () => this.#viewer.zoom.by(1.5));
    byId("farther").addEventListener("click", () => this.#viewer.zoom.by(1 / 1.5));
    byId("fit").addEventListener("click", () => this.#viewer.zoom.fit());
    const keys = Object.fromEntries(ACTIONS.map(([name, key]) => [key, () => this.#can(name) && run(name)]));
    onKeys(byId("shortcuts"), {
      ...keys,
      V: () => this.#setMode(this.#modes[(this.#modes.indexOf(this.#viewer.mode) + 1) % this.#modes.length]),
      O: () => byId("outline").click(),
      " ": () => this.#viewer.mode === "blink" && this.#viewer.flip(),
      "[": () => this.#step(-1),
      "]": () => this.#step(1),
    });
  }

  // Shows a group, as its answer has it; the same pair as before where it is still there.
  show(group) {
    if (group.id !== this.id) this.#said.clear();
    [this.id, this.#group] = [group.id, group];
    [this.#left, this.#others, this.#right] = this.#arrange(group);
    this.#byId("group").hidden = false;
    this.#draw();
  }

  // Whether the pair that is compared would stay as it is if this group were shown: a key means what it meant.
  keeps(group) {
    const [left, , right] = this.#arrange(group);
    const same = (one, other) => one?.relative_path === other?.relative_path && one?.content === other?.content;
    const pending = Boolean(this.#right) && this.#waits(this.#right);
    return same(right?.beside ?? left, this.#from) && same(right, this.#right) && (!pending || this.#waits(right));
  }

  // Whether any pair of a group would wait if it were shown.
  pending(group) {
    return this.#arrange(group)[1].some((one) => this.#waits(one));
  }

  // The images of a group as it would be shown: the left one, all others, and the right one.
  #arrange(group) {
    const before = this.#right && pairName(this.#right);
    const member = (path) => group.members.find((one) => one.relative_path === path);
    const kept = group.id === this.#kept?.group && member(this.#kept.path);
    const left = kept || group.members.find((one) => one.keep) || group.members[0];
    const known = (image) => group.beyond.find((one) => one.relative_path === image.relative_path && one.content === image.content);
    const beyond = (edge, doubtful) => ({
      ...known(edge.right), ...edge.right, relation: edge.relation, outside: true, doubtful, keep: false, decided: false,
      beside: member(edge.left.relative_path),
    });
    const outside = [...group.doubtful.map((edge) => beyond(edge, true)), ...group.linked.map((one) => beyond(one.edge, false))];
    // a pair that is in doubt may be the strongest link, too
    const once = outside.filter((one, n) => outside.findIndex((other) => pairName(other) === pairName(one)) === n);
    const inside = group.members.filter((one) => one !== left);
    const others = [...inside, ...once].slice(0, MOST_THUMBS);
    const waiting = others.filter((one) => this.#waits(one));
    return [left, others, waiting.find((one) => pairName(one) === before) ?? waiting[0] ?? others[0]];
  }

  // Keeps the pair in place, and lets no key decide, until the hold ends.
  hold(on) {
    this.#held = on;
    for (const [name] of ACTIONS) this.#byId(`do-${name}`).disabled = !this.#can(name);
  }

  hide() {
    [this.id, this.#group] = [null, null];
    this.#byId("group").hidden = true;
    this.#viewer.clear();
  }

  focus() {
    if (this.id !== null && document.activeElement === document.body) this.#byId("group").focus({ preventScroll: true });
  }

  concerns(decision) {
    if (this.id === null) return false;
    const paths = new Set(this.#group.members.map((one) => one.relative_path));
    return decision.images.some((one) => paths.has(one.relative_path));
  }

  // Whether a decision is about both images that are compared.
  compares(decision) {
    if (this.id === null || !this.#right) return false;
    const named = (one) => decision.images.some((image) => image.relative_path === one.relative_path && image.content === one.content);
    return named(this.#from) && named(this.#right);
  }

  // Notes that somebody else has said something of the pair that is compared.
  settled() {
    this.#said.add(pairName(this.#right));
  }

  // What an action says; null where it says nothing here.
  decision(name) {
    if (!this.#can(name)) return null;
    const [left, right] = [this.#from, this.#right];
    const [pair, expected] = [[left, right], this.#group.newest];
    const keep = { left: [left], right: [right], both: pair }[name];
    if (keep) return { decision: "duplicate", images: pair, keep: keep.map((one) => one.relative_path), expected };
    if (name === "different") return { decision: "not_duplicate", images: pair, expected };
    // of a group that is listed in part the bridge knows the other images
    const all = { images: this.#listed ? this.#group.members : undefined, group: this.id, expected };
    if (name === "group") return { ...all, decision: "duplicate", keep: [this.#left.relative_path] };
    return this.#group.member_count > 1 ? { ...all, decision: "later" } : { decision: "later", images: pair, expected };
  }

  // Notes what was said; returns whether another image of the group still waits, which is then compared.
  said(name, made) {
    this.#group.newest = Math.max(this.#group.newest, made.number);
    this.#group.decisions.unshift(made);
    if (name === "group" || name === "later") return false;
    if (name === "right" && !this.#right.outside) this.#kept = { group: this.id, path: this.#right.relative_path };
    this.#said.add(name === "right" && !this.#right.outside ? this.#from.relative_path : pairName(this.#right));
    const more = this.#others.some((one) => one !== this.#right && this.#waits(one));
    if (more) this.show(this.#group);
    return more;
  }

  // Forgets what was said of images, since it was undone, and begins with the first pair.
  unsaid(images) {
    this.forget(images);
    [this.#kept, this.#right] = [null, null];
  }

  forget(images) {
    const paths = images.map((one) => one.relative_path);
    this.#said = new Set([...this.#said].filter((name) => !name.split("\n").some((path) => paths.includes(path))));
  }

  // Whether an image, or a pair that leads out of the group, waits for a word.
  #waits(one) {
    return (one.outside ? one.doubtful : !one.decided) && !this.#said.has(pairName(one));
  }

  #kept = null;

  // The left image of the pair that is compared: of a pair that leads out of the group, the one that it leads from.
  get #from() {
    return this.#right?.beside ?? this.#left;
  }

  #can(name) {
    if (name === "undo") return true;
    if (this.id === null || !this.#right || this.#held) return false;
    if (name === "later") return this.#group.member_count <= MOST_DECIDED;
    return name !== "group" || (this.#group.members.length > 2 && this.#listed);
  }

  // Whether the answer has all images of the group.
  get #listed() {
    return this.#group.members.length === this.#group.member_count;
  }

  #step(by) {
    const n = this.#others.length;
    if (n < 2) return;
    this.#right = this.#others[(this.#others.indexOf(this.#right) + by + n) % n];
    this.#draw();
  }

  get #modes() {
    return MODES.filter((mode) => this.#aligned || mode !== "difference");
  }

  #setMode(mode) {
    this.#wanted = mode;
    this.#showMode();
  }

  // Shows the wanted view, or the pictures side by side where it would compare what does not belong together.
  #showMode() {
    const mode = this.#modes.includes(this.#wanted) ? this.#wanted : "beside";
    this.#byId("mode").querySelector("[value=difference]").disabled = !this.#aligned;
    this.#byId("mode").value = mode;
    this.#byId("slider").parentElement.hidden = mode !== "slider";
    this.#viewer.set(mode);
  }

  #draw() {
    const [group, byId] = [this.#group, this.#byId];
    const others = group.member_count === 1 ? "1 image" : `${group.member_count.toLocaleString("en")} images`;
    byId("group-title").replaceChildren(html("bdi", {}, group.id));
    const certain = group.score === null ? null : `certainty ${group.score.toFixed(2)}`;
    const reasons = group.reasons.length ? ` (${group.reasons.join(", ")})` : "";
    const suggested = group.keep ? `${group.chosen ? "chosen" : "suggested"}: ${group.keep}${reasons}` : null;
    const large = group.member_count > MOST_DECIDED ? "too large to put off: decide on its pairs" : null;
    byId("group-says").textContent = [others, group.member_count > 1 ? relation(group.relation) : null, certain, suggested, large].filter(Boolean).join(" · ");
    byId("members").replaceChildren(...(this.#others.length > 1 ? this.#others.map((one) => this.#thumb(one)) : []));
    for (const [name] of ACTIONS) byId(`do-${name}`).disabled = !this.#can(name);
    byId("do-group").hidden = !this.#can("group");
    const said = byId("said");
    said.hidden = !group.decisions.length;
    said.querySelector("summary").textContent = `Said of these images: ${group.decisions.length}`;
    said.querySelector("ul").replaceChildren(...history(group.decisions, this.undoLater));
    this.#compare();
  }

  #thumb(one) {
    const beyond = `another group: ${one.doubtful ? "doubtful" : relation(one.relation)}`;
    const twice = this.#others.some((other) => other !== one && other.relative_path === one.relative_path);
    const words = one.outside ? `${beyond}${twice && one.beside ? `, beside ${one.beside.relative_path}` : ""}` : relation(one.relation);
    const picture = html("img", { src: pictureOf(one.relative_path, THUMB), alt: "", loading: "lazy" });
    const button = html("button", { type: "button", class: "thumb", "aria-pressed": one === this.#right },
      picture, html("bdi", {}, one.relative_path), html("span", { class: "soft" }, one.decided ? `${words}, decided` : words));
    button.setAttribute("aria-pressed", String(one === this.#right));
    button.addEventListener("click", () => { this.#right = one; this.#draw(); });
    return button;
  }

  #compare() {
    const [left, right, byId] = [this.#from, this.#right, this.#byId];
    if (!right) {
      this.#viewer.clear();
      byId("facts").replaceChildren();
      byId("evidence").textContent = "A single image is left of this group.";
      return;
    }
    const pair = evidence(this.#group.pairs, left.relative_path, right.relative_path);
    this.#aligned = left.content === right.content || mapOf(pair) !== null;
    this.#showMode();
    this.#viewer.show(left.relative_path, right.relative_path, pair);
    byId("facts").replaceChildren(facts(left, right, this.#group.chosen ? "chosen" : "suggested"));
    const unaligned = this.#aligned ? null : "No map says how one lies over the other, so there is no difference to show.";
    byId("evidence").textContent = [words(pair, left, right), unaligned].filter(Boolean).join(" ");
  }
}

// What tells an image that is compared from the others: a pair that leads out of the group is named by both.
const pairName = (one) => (one.outside ? `${one.beside?.relative_path}\n${one.relative_path}` : one.relative_path);

// The evidence of a pair, its left side the left path; null where no alert tells of it.
function evidence(pairs, left, right) {
  const found = pairs.find((one) => one.left === left && one.right === right);
  if (found) return found;
  const turned = pairs.find((one) => one.left === right && one.right === left);
  if (!turned) return null;
  const swap = (numbers, half) => [...numbers.slice(half), ...numbers.slice(0, half)];
  return { ...turned, points: turned.points.map((one) => swap(one, 2)), regions: turned.regions.map((one) => swap(one, 4)) };
}

function words(pair, left, right) {
  if (left.content === right.content) return "The same bytes.";
  if (!pair) return "No alert names these two; other pairs connect them.";
  const edit = pair.edit && `${pair.left} is ${pair.edit}`;
  return [`Certainty ${pair.score.toFixed(2)}`, edit, `${pair.inliers} matching points`].filter(Boolean).join(" · ");
}
