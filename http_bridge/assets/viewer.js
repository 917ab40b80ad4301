// Two pictures in one place. Everything is drawn in the left picture's frame: the right one is laid over it by the map
// that fits the pair's matching points, so that both are seen in step, however they were cropped, turned or mirrored.

import { pictureOf, svg } from "./dom.js";
import { apply, fit, regions } from "./geometry.js";
import { sides } from "./sides.js";
import { Zoom } from "./zoom.js";

const HEIGHT = 1000;
const SIDE = 1280;
const CLOSE_SIDE = 2048;
const CLOSE = 2;
const BLINK_MS = 700;
export const MODES = ["beside", "blink", "slider", "difference"];

function load(address) {
  return new Promise((resolve) => {
    const image = new Image();
    image.onload = () => resolve({ address, shape: image.naturalWidth / image.naturalHeight || 1 });
    image.onerror = () => resolve({ address: null, shape: 4 / 3 });
    image.src = address;
  });
}

// The map that lays the right picture over the left one, from the points of their pair; null where there is none.
export function mapOf(pair) {
  const points = pair?.points ?? [];
  return fit(points.map((one) => one.slice(2, 4)), points.map((one) => one.slice(0, 2)));
}

const FRAME = [[0, 0], [1, 0], [1, 1], [0, 1]];
const SAME = [1, 0, 0, 0, 1, 0];

// The box around both frames, with a little room.
function around(polygons) {
  const [xs, ys] = [0, 1].map((axis) => polygons.flat().map((point) => point[axis]));
  const [left, top] = [Math.min(...xs), Math.min(...ys)];
  const [width, height] = [Math.max(...xs) - left, Math.max(...ys) - top];
  const room = 0.01 * Math.max(width, height);
  return { x: left - room, y: top - room, width: width + 2 * room, height: height + 2 * room };
}

export class Viewer {
  mode = "beside";
  outlined = true;
  #shown = 0;
  #place;
  #slider;
  #whole = { x: 0, y: 0, width: 1, height: 1 };

  // place: holds the drawings; slider: an input from 0 to 100
  constructor(place, slider) {
    this.#place = place;
    this.#slider = slider;
    const drawing = (label) => svg("svg", { class: "drawing", tabindex: 0, role: "img", "aria-label": label });
    this.left = drawing("left picture");
    this.right = drawing("right picture");
    place.replaceChildren(this.left, this.right);
    this.zoom = new Zoom(this.left, this.right);
    this.zoom.onChange = (closer) => closer >= CLOSE && this.#sharpen();
    slider.addEventListener("input", () => this.#slide());
    setInterval(() => this.#blink(), BLINK_MS);
    this.set(this.mode);
  }

  // Shows two paths; `pair` is the evidence, its left side the left path, or null.
  async show(left, right, pair) {
    const number = ++this.#shown;
    const pictures = await Promise.all([left, right].map((path) => load(pictureOf(path, SIDE))));
    if (number !== this.#shown) return;
    const points = pair?.points ?? [];
    const map = mapOf(pair) ?? SAME;
    const width = HEIGHT * pictures[0].shape;
    const place = ([x, y]) => [x * width, y * HEIGHT];
    const frames = [FRAME.map(place), FRAME.map((corner) => place(apply(map, corner)))];
    const shared = points.length ? regions(points)[0].map(place) : null;
    const matrix = [map[0] * width, map[3] * HEIGHT, map[1] * width, map[4] * HEIGHT, map[2] * width, map[5] * HEIGHT];
    const draw = (index) => this.#picture(pictures[index], frames[index], index ? matrix : [width, 0, 0, HEIGHT, 0, 0]);
    this.left.replaceChildren(draw(0), this.#over(draw(1)), ...this.#outline(shared, pair, place));
    this.right.replaceChildren(draw(1), ...this.#outline(shared, pair, place));
    this.#whole = around(frames);
    this.zoom.show(this.#whole);
    const [one, other] = sides();
    this.left.setAttribute("aria-label", `${one}: ${left}`);
    this.right.setAttribute("aria-label", `${other}: ${right}`);
    this.#slide();
  }

  clear() {
    this.#shown++;
    for (const drawing of [this.left, this.right]) drawing.replaceChildren();
  }

  set(mode) {
    this.mode = mode;
    this.#place.dataset.mode = mode;
    this.#place.classList.remove("flipped");
    this.#slider.hidden = mode !== "slider";
    this.#slide();
  }

  // Shows the other picture of a blink.
  flip() {
    this.#place.classList.toggle("flipped");
  }

  outline(on) {
    this.outlined = on;
    this.#place.classList.toggle("plain", !on);
  }

  #picture(picture, frame, matrix) {
    const points = frame.map((corner) => corner.join(",")).join(" ");
    if (picture.address === null) {
      const [x, y] = [(frame[0][0] + frame[2][0]) / 2, (frame[0][1] + frame[2][1]) / 2];
      return svg("g", {}, svg("polygon", { class: "blank", points }), svg("text", { class: "gone", x, y }, "cannot be shown"));
    }
    return svg("image", {
      href: picture.address, width: 1, height: 1, preserveAspectRatio: "none", transform: `matrix(${matrix.join(" ")})`,
    });
  }

  // The right picture over the left one, as far as the slider is.
  #over(picture) {
    const clip = svg("clipPath", { id: "slid" }, svg("rect", { class: "slid" }));
    return svg("g", { class: "over" }, clip, svg("g", { class: "cut" }, picture));
  }

  #slide() {
    const rect = this.left.querySelector(".slid");
    const cut = this.left.querySelector(".cut");
    if (!rect) return;
    if (this.mode !== "slider") cut.removeAttribute("clip-path");
    else cut.setAttribute("clip-path", "url(#slid)");
    const { x, y, width, height } = this.#whole;
    const share = this.#slider.value / 100;
    const sides = { x: x + share * width, y, width: (1 - share) * width, height };
    for (const [name, value] of Object.entries(sides)) rect.setAttribute(name, value);
  }

  #outline(shared, pair, place) {
    if (!shared) return [];
    const points = shared.map((corner) => corner.join(",")).join(" ");
    const group = svg("g", { class: "outline" },
      svg("polygon", { class: "region-rim", points }), svg("polygon", { class: "region", points }));
    for (const [left, top, right, bottom] of pair.regions ?? []) {
      const [[x1, y1], [x2, y2]] = [place([left, top]), place([right, bottom])];
      group.append(svg("rect", { class: "differs", x: x1, y: y1, width: x2 - x1, height: y2 - y1 }));
    }
    return [group];
  }

  #sharpen() {
    for (const drawing of [this.left, this.right]) {
      for (const image of drawing.querySelectorAll("image")) {
        const sharp = image.getAttribute("href").replace(`side=${SIDE}`, `side=${CLOSE_SIDE}`);
        if (sharp !== image.getAttribute("href")) image.setAttribute("href", sharp);
      }
    }
  }

  #blink() {
    if (this.mode === "blink" && !matchMedia("(prefers-reduced-motion: reduce)").matches) this.flip();
  }
}
