// Draws two pictures side by side, with outlines of what both show and of what differs, and a line for each pair of
// matching points.

import { html, pictureOf, svg } from "./dom.js";
import { regions } from "./geometry.js";

const HEIGHT = 800;
const GAP = 40;
// between what differs and its outline
const AWAY = 7;
const MAX_OUTLINED = 24;
// limits of a box's aspect ratio, so that a long screenshot does not squeeze the other picture
const SHAPES = [0.5, 2];

function load(address) {
  return new Promise((resolve) => {
    const image = new Image();
    image.onload = () => resolve({ address, shape: image.naturalWidth / image.naturalHeight || 1 });
    image.onerror = () => resolve({ address: null, shape: 1 });
    image.src = address;
  });
}

// The box for a picture with this aspect ratio, starting at `left`.
function boxOf(shape, left) {
  const width = HEIGHT * Math.min(SHAPES[1], Math.max(SHAPES[0], shape));
  const scale = Math.min(width / shape, HEIGHT);
  return { left, width, x: left + (width - scale * shape) / 2, y: (HEIGHT - scale) / 2, w: scale * shape, h: scale };
}

const place = (box, [x, y]) => [box.x + x * box.w, box.y + y * box.h];

function shown(picture, box) {
  if (picture.address !== null) {
    return svg("image", { href: picture.address, x: box.x, y: box.y, width: box.w, height: box.h, preserveAspectRatio: "none" });
  }
  return svg("g", {},
    svg("rect", { class: "blank", x: box.x, y: box.y, width: box.w, height: box.h }),
    svg("text", { class: "gone", x: box.x + box.w / 2, y: box.y + box.h / 2 }, "cannot be shown"));
}

function outline(region, box) {
  const points = region.map((point) => place(box, point).map((v) => v.toFixed(1)).join(",")).join(" ");
  return ["region-rim", "region"].map((kind) => svg("polygon", { class: kind, points }));
}

// Outlines what differs: boxes in the picture here and in the picture there, as shares of width and height.
function differences(boxes, here, there) {
  const group = svg("g", {});
  const outlined = (kind, box, [left, top, right, bottom]) => {
    const [[x1, y1], [x2, y2]] = [place(box, [left, top]), place(box, [right, bottom])];
    const [width, height] = [x2 - x1 + 2 * AWAY, y2 - y1 + 2 * AWAY];
    group.append(svg("rect", { class: kind, x: (x1 - AWAY).toFixed(1), y: (y1 - AWAY).toFixed(1), width: width.toFixed(1), height: height.toFixed(1) }));
  };
  for (const kind of ["differs-rim", "differs"]) {
    for (const box of boxes.slice(0, MAX_OUTLINED)) {
      outlined(kind, here, box.slice(0, 4));
      outlined(kind, there, box.slice(4, 8));
    }
  }
  return group;
}

function marks(points, here, there) {
  const group = svg("g", { class: "marks" });
  for (const point of points) {
    const [one, two] = [place(here, point.slice(0, 2)), place(there, point.slice(2, 4))];
    group.append(svg("line", { class: "line", x1: one[0], y1: one[1], x2: two[0], y2: two[1] }));
  }
  for (const point of points) {
    for (const [x, y] of [place(here, point.slice(0, 2)), place(there, point.slice(2, 4))]) {
      group.append(svg("circle", { class: "dot", cx: x, cy: y, r: 7 }));
    }
  }
  return group;
}

async function draw(drawing, addresses, found) {
  const pictures = await Promise.all(addresses.map(load));
  const here = boxOf(pictures[0].shape, 0);
  const there = boxOf(pictures[1].shape, here.width + GAP);
  drawing.setAttribute("viewBox", `0 0 ${there.left + there.width} ${HEIGHT}`);
  drawing.append(shown(pictures[0], here), shown(pictures[1], there));
  if (found.points) {
    const [inside, outside] = regions(found.points);
    drawing.append(...outline(inside, here), ...outline(outside, there));
  }
  drawing.append(differences(found.regions ?? [], here, there), marks(found.points ?? [], here, there));
}

const PARTS = {
  crop: "the left one is a part of the right one",
  contains: "the right one is a part of the left one",
  overlap: "each shows a part of the other",
};
const OUTLINED = "what differs is outlined in blue";

function evidence(found) {
  if (found.edit === "the same file") return "identical bytes";
  const agrees = `${Math.round(100 * found.agreement)} % of the overlap agrees`;
  const how = found.points.length ? `${found.inliers} matching points, ${agrees}` : `too plain for matching points, ${agrees}`;
  return [how, PARTS[found.relation], found.regions?.length ? OUTLINED : null].filter(Boolean).join("; ");
}

function figure(address, name, link, found, label, ...says) {
  const drawing = svg("svg", { class: "picture", role: "img", "aria-label": label, viewBox: `0 0 ${2 * HEIGHT + GAP} ${HEIGHT}` });
  draw(drawing, [address, pictureOf(found.relative_path, 640)], found);
  return html("figure", { class: "pair" }, drawing,
    html("figcaption", {},
      html("div", { class: "names" },
        link ? html("a", { href: link }, html("bdi", {}, name)) : html("bdi", {}, name),
        html("a", { href: pictureOf(found.relative_path, 2048) }, html("bdi", {}, found.relative_path))),
      html("p", { class: "says" }, ...says)));
}

// A figure of the candidate beside one of its duplicates; `address` is the URL of the candidate's picture.
export function pair(address, name, link, found) {
  const score = html("span", { class: found.score >= 0.9 ? "score sure" : "score", title: "Certainty; 1 is certain" }, found.score.toFixed(2));
  return figure(address, name, link, found, `${name} beside ${found.relative_path}: ${found.edit || "duplicate"}`, score,
    html("span", { class: "edit" }, found.edit || "duplicate"), html("span", { class: "evidence" }, evidence(found)));
}

// A figure of the candidate beside an image that is alike and no duplicate.
export function alike(address, name, link, found) {
  const says = found.regions.length ? `${found.reason}; ${OUTLINED}` : found.reason;
  return figure(address, name, link, found, `${name} beside ${found.relative_path}: ${found.reason}`,
    html("span", { class: "evidence" }, says));
}

// A fold with this summary, whose contents are made when it is opened.
export function folded(summary, make) {
  const fold = html("details", {}, html("summary", {}, summary));
  fold.addEventListener("toggle", () => fold.open && fold.children.length === 1 && fold.append(...make()));
  return fold;
}

// Shows the first pairs; the others are drawn when their fold is opened.
export function pairs(all, make, first = 1) {
  const nodes = all.slice(0, first).map(make);
  const rest = all.slice(first);
  if (rest.length) nodes.push(folded(`${rest.length} more`, () => rest.map(make)));
  return nodes;
}
