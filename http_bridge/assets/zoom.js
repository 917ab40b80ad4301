// Zooms and pans any number of drawings in step: they share one box of what is seen.

const STEP = 1.25;
const CLOSEST = 1 / 40;

export class Zoom {
  #whole = { x: 0, y: 0, width: 1, height: 1 };
  #seen = { ...this.#whole };
  #drawings;
  #pointers = new Map();
  // called after each change with how many times closer than the whole it is
  onChange = () => {};

  constructor(...drawings) {
    this.#drawings = drawings;
    for (const drawing of drawings) this.#listen(drawing);
  }

  // Shows all of a box.
  show(whole) {
    this.#whole = whole;
    this.fit();
  }

  fit() {
    this.#seen = { ...this.#whole };
    this.#apply();
  }

  // Comes closer by a factor; x and y are the shares of the drawing that stay where they are.
  by(factor, x = 0.5, y = 0.5) {
    const width = Math.min(this.#whole.width, Math.max(this.#whole.width * CLOSEST, this.#seen.width / factor));
    const scale = width / this.#seen.width;
    this.#seen = {
      x: this.#seen.x + x * this.#seen.width * (1 - scale),
      y: this.#seen.y + y * this.#seen.height * (1 - scale),
      width,
      height: this.#seen.height * scale,
    };
    this.#apply();
  }

  // Moves by shares of what is seen.
  move(x, y) {
    this.#seen.x += x * this.#seen.width;
    this.#seen.y += y * this.#seen.height;
    this.#apply();
  }

  // A key that zooms or moves; whether it was one.
  key(name) {
    const moves = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] };
    if (name in moves) this.move(...moves[name]);
    else if (name === "+" || name === "=") this.by(STEP);
    else if (name === "-") this.by(1 / STEP);
    else if (name === "0") this.fit();
    else return false;
    return true;
  }

  #apply() {
    const [seen, whole] = [this.#seen, this.#whole];
    seen.x = Math.min(whole.x + whole.width - seen.width, Math.max(whole.x, seen.x));
    seen.y = Math.min(whole.y + whole.height - seen.height, Math.max(whole.y, seen.y));
    const box = [seen.x, seen.y, seen.width, seen.height].map((side) => side.toFixed(2)).join(" ");
    for (const drawing of this.#drawings) drawing.setAttribute("viewBox", box);
    this.onChange(whole.width / seen.width);
  }

  #listen(drawing) {
    drawing.addEventListener("wheel", (event) => {
      event.preventDefault();
      const box = drawing.getBoundingClientRect();
      this.by(event.deltaY < 0 ? STEP : 1 / STEP, (event.clientX - box.x) / box.width, (event.clientY - box.y) / box.height);
    }, { passive: false });
    drawing.addEventListener("pointerdown", (event) => {
      this.#pointers.set(event.pointerId, event);
      drawing.setPointerCapture(event.pointerId);
    });
    for (const kind of ["pointerup", "pointercancel"]) {
      drawing.addEventListener(kind, (event) => this.#pointers.delete(event.pointerId));
    }
    drawing.addEventListener("pointermove", (event) => this.#drag(drawing, event));
    drawing.addEventListener("keydown", (event) => {
      if (!event.ctrlKey && !event.metaKey && !event.altKey && this.key(event.key)) event.preventDefault();
    });
  }

  #drag(drawing, event) {
    const before = this.#pointers.get(event.pointerId);
    if (!before) return;
    const box = drawing.getBoundingClientRect();
    const others = [...this.#pointers.values()].filter((one) => one.pointerId !== event.pointerId);
    if (others.length) {
      const away = (one) => Math.hypot(one.clientX - others[0].clientX, one.clientY - others[0].clientY);
      const [x, y] = [(event.clientX + others[0].clientX) / 2, (event.clientY + others[0].clientY) / 2];
      this.by(away(event) / Math.max(1, away(before)), (x - box.x) / box.width, (y - box.y) / box.height);
    } else {
      this.move((before.clientX - event.clientX) / box.width, (before.clientY - event.clientY) / box.height);
    }
    this.#pointers.set(event.pointerId, event);
  }
}
