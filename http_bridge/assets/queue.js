// The groups that wait, by id, read page by page.

import { need } from "./api.js";

const PAGE = 50;
const MOST = 500;

// What the choice of state asks the bridge for.
const STATES = {
  open: { state: "open", later: "no" },
  later: { state: "open", later: "yes" },
  decided: { state: "decided" },
  all: { state: "all" },
};

async function readPage(filters, limit, cursor) {
  const query = new URLSearchParams({ ...filters, ...STATES[filters.state], limit });
  for (const [name, value] of [...query]) if (!value) query.delete(name);
  if (cursor !== null) query.set("cursor", cursor);
  return need("GET", `/v1/groups?${query}`);
}

export class Queue {
  groups = [];
  total = 0;
  // decided here, until the bridge tells what became of them
  done = new Set();
  #cursor = null;
  #filters = {};

  // Yields the groups that fit, page by page.
  static async *pages(filters, limit) {
    let cursor = null;
    do {
      const page = await readPage(filters, limit, cursor);
      yield page.groups;
      cursor = page.cursor;
    } while (cursor !== null);
  }

  // filters: state (one of STATES), relation, min_score, min_members, search
  async load(filters) {
    this.#filters = filters;
    await this.#read(PAGE);
  }

  async refresh() {
    await this.#read(Math.min(MOST, Math.max(PAGE, this.groups.length)));
  }

  get waiting() {
    return this.groups.filter((one) => !this.done.has(one.id));
  }

  // How many groups fit, without those decided here.
  get count() {
    return Math.max(0, this.total - this.groups.filter((one) => this.done.has(one.id)).length);
  }

  // The group behind `id`, and from the beginning again behind the last; null where no other waits.
  async next(id) {
    for (;;) {
      const found = this.waiting.find((one) => one.id > id);
      if (found) return found.id;
      if (this.#cursor === null) break;
      await this.#more();
    }
    await this.#read(PAGE);
    return this.waiting.find((one) => one.id !== id)?.id ?? null;
  }

  async #read(limit) {
    const page = await readPage(this.#filters, limit, null);
    [this.groups, this.total, this.#cursor] = [page.groups, page.total, page.cursor];
  }

  async #more() {
    const page = await readPage(this.#filters, PAGE, this.#cursor);
    [this.groups, this.total, this.#cursor] = [[...this.groups, ...page.groups], page.total, page.cursor];
  }
}
