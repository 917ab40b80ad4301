// Decides on many groups at once: those whose files are all the same bytes.

import { ask, inUrl } from "./api.js";
import { sizeOf } from "./decide.js";
import { Queue } from "./queue.js";

const AT_ONCE = 50;
// of one request; the bridge takes 2 ** 20
const MOST_BYTES = 500_000;

// Keeps the suggested file of every waiting group that fits the filters; calls `progress` with how many are done.
// Returns how many were decided, and how many were left: someone has said something else, or they have changed.
export async function keepSuggested(filters, decisions, progress) {
  let [decided, left] = [0, 0];
  for await (const page of Queue.pages({ ...filters, state: "open", relation: "identical", min_members: 2 }, AT_ONCE)) {
    const groups = (await Promise.all(page.map(wholeGroup))).filter((one) => one !== null);
    let done = 0;
    for (const part of parts(groups)) done += await say(part, decisions);
    decided += done;
    left += page.length - done;
    progress(decided);
  }
  return { decided, left };
}

// The decision on a group; null if it is not what the list said, or is listed in part.
async function wholeGroup(summary) {
  const { status, body } = await ask("GET", `/v1/groups/${inUrl(summary.id)}`);
  if (status !== 200) return null;
  const group = body.response;
  const keep = group.members.find((one) => one.keep);
  const same = group.members.every((one) => one.content === group.members[0].content);
  if (!keep || !same || group.members.length < 2 || group.members.length < group.member_count) return null;
  return { decision: "duplicate", images: group.members, keep: [keep.relative_path], group: group.id, expected: group.newest };
}

// The groups in runs that a request holds; a larger group is alone.
function parts(groups) {
  const found = [];
  let room = 0;
  for (const group of groups) {
    const bytes = sizeOf(group);
    if (bytes > room) {
      found.push([]);
      room = MOST_BYTES;
    }
    found.at(-1).push(group);
    room -= bytes;
  }
  return found;
}

// All at once, and one by one where somebody has decided meanwhile.
async function say(groups, decisions) {
  if (!groups.length) return 0;
  if ((await decisions.say(groups)).made) return groups.length;
  let done = 0;
  for (const group of groups) done += (await decisions.say([group])).made ? 1 : 0;
  return done;
}
