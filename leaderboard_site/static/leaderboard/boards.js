/** The tabs of boards on the page, and the buttons that leaf through the past periods of one. */

import { DEFAULT_BOARD } from "./live-leaderboard.js";
import { part } from "./parts.js";

/**
 * @typedef {import("./live-leaderboard.js").LiveLeaderboard} LiveLeaderboard
 * @typedef {{name: string, title: string, period: string, archived: boolean}} Board
 * @typedef {{period: number, startsAt: string | null, endsAt: string | null, isCurrent: boolean}} Period
 */

const PERIODS_AT_ONCE = 50;
const PERIODS = `
<button class="older plain" type="button">Previous period</button>
<button class="newer plain" type="button">Next period</button>
<button class="now plain" type="button">Back to now</button>
<span class="hidden" role="status"></span>`;

/**
 * Puts a tab for each board above the table, after the pattern of WAI-ARIA: one of them is in the order of the Tab key,
 * and the arrows go from one to the next. The address follows, so that it can be kept and shared.
 *
 * @param {Board[]} boards the default one first
 * @param {LiveLeaderboard} element
 * @param {URL} service
 */
export function offer(boards, element, service) {
  const shown = element.getAttribute("board") ?? DEFAULT_BOARD;
  const offered = boards.filter(({ name, archived }) => !archived || name === shown);
  if (offered.length < 2) return;
  const list = document.createElement("div");
  list.className = "tabs";
  list.setAttribute("role", "tablist");
  list.setAttribute("aria-label", "Boards");
  list.append(...offered.map(tab));
  const tabs = /** @type {HTMLButtonElement[]} */ ([...list.children]);
  element.id = "board";
  element.setAttribute("role", "tabpanel");
  const leaf = new Periods(element, service);

  /** @param {number} index */
  const select = (index) => {
    for (const [n, tab] of tabs.entries()) {
      tab.setAttribute("aria-selected", String(n === index));
      tab.tabIndex = n === index ? 0 : -1;
    }
    tabs[index].scrollIntoView({ block: "nearest", inline: "nearest" });
    element.setAttribute("aria-labelledby", tabs[index].id);
    const board = offered[index];
    const address = new URL(location.href);
    if (board.name === DEFAULT_BOARD) {
      element.removeAttribute("board");
      address.searchParams.delete("board");
    } else {
      element.setAttribute("board", board.name);
      address.searchParams.set("board", board.name);
    }
    if (address.href !== location.href) history.replaceState(history.state, "", address);
    leaf.show(board);
  };
  /** @param {number} index */
  const choose = (index) => {
    document.querySelector(".missing")?.remove(); // what they asked for before
    select(index);
  };
  list.addEventListener("click", ({ target }) => {
    const index = tabs.findIndex((tab) => tab === target);
    if (index >= 0 && tabs[index].getAttribute("aria-selected") === "false") choose(index);
  });
  list.addEventListener("keydown", (event) => {
    const index = tabs.findIndex((tab) => tab === event.target);
    const last = tabs.length - 1;
    /** @type {Record<string, number>} */
    const places = {
      ArrowLeft: index === 0 ? last : index - 1,
      ArrowRight: index === last ? 0 : index + 1,
      Home: 0,
      End: last,
    };
    const to = places[event.key];
    if (to === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    tabs[to].focus();
    choose(to);
  });
  element.before(list);
  const first = offered.findIndex(({ name }) => name === shown);
  select(Math.max(0, first));
}

/** @param {Board} board */
function tab({ name, title }) {
  const button = document.createElement("button");
  button.type = "button";
  button.id = `board-${name}`;
  button.setAttribute("role", "tab");
  button.setAttribute("aria-controls", "board");
  button.textContent = title || (name === DEFAULT_BOARD ? "Leaderboard" : name);
  return button;
}

/** The buttons under the table. A past period is asked for when somebody leafs to it; it does not change any more. */
class Periods {
  #element;
  #service;
  #line = document.createElement("div");
  #board = "";
  /** @type {Period[] | undefined} the newest first */
  #known;
  #at = 0; // how many periods before the current one
  /** @type {AbortController | undefined} */
  #asking;

  /**
   * @param {LiveLeaderboard} element
   * @param {URL} service
   */
  constructor(element, service) {
    this.#element = element;
    this.#service = service;
    this.#line.className = "periods";
    this.#line.setAttribute("role", "group");
    this.#line.setAttribute("aria-label", "Periods");
    this.#line.innerHTML = PERIODS;
    this.#button("older").addEventListener("click", () => this.#leaf(this.#at + 1));
    this.#button("newer").addEventListener("click", () => this.#leaf(this.#at - 1));
    this.#button("now").addEventListener("click", () => this.#leaf(0));
    element.addEventListener("update", () => {
      if (this.#known && this.#at === 0) this.#known = undefined; // another period may have begun
    });
    element.after(this.#line);
  }

  /** @param {Board} board */
  show({ name, period }) {
    this.#asking?.abort();
    this.#board = name;
    this.#known = undefined;
    this.#at = 0;
    this.#element.past = undefined;
    this.#line.hidden = period === "forever";
    this.#say("");
    this.#enable();
  }

  /** @param {number} to */
  async #leaf(to) {
    if (to < 0 || (to === 0 && this.#at === 0)) return;
    this.#asking?.abort();
    const { signal } = (this.#asking = new AbortController());
    try {
      if (to === 0) {
        this.#at = 0;
        this.#element.past = undefined;
        this.#say("The current period.");
      } else {
        const periods = (this.#known ??= await this.#periods(0, signal));
        if (to >= periods.length) periods.push(...(await this.#periods(periods.length, signal)));
        const period = periods[to];
        if (period) {
          const page = await this.#ask(`?period=${period.period}`, signal);
          this.#at = to;
          this.#element.past = page;
          this.#say(`The period ${this.#element.querySelector(".period")?.textContent}.`);
        } else this.#say("There is no earlier period.");
      }
    } catch {
      if (!signal.aborted) this.#say("The service cannot be reached. Please try again.");
    }
    if (!signal.aborted) this.#enable();
  }

  /**
   * @param {number} offset
   * @param {AbortSignal} signal
   * @returns {Promise<Period[]>}
   */
  async #periods(offset, signal) {
    const { periods } = await this.#ask(`/periods?limit=${PERIODS_AT_ONCE}&offset=${offset}`, signal);
    return periods;
  }

  /**
   * @param {string} what behind the address of the board
   * @param {AbortSignal} signal
   */
  async #ask(what, signal) {
    const address = new URL(`api/v1/boards/${this.#board}${what}`, this.#service);
    const answer = await fetch(address, { credentials: "omit", signal });
    if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
    return answer.json();
  }

  #enable() {
    const isLast = this.#known !== undefined && this.#known.length % PERIODS_AT_ONCE !== 0;
    this.#disable("older", isLast && this.#at + 1 >= (this.#known?.length ?? 0));
    this.#disable("newer", this.#at === 0);
    this.#disable("now", this.#at === 0);
  }

  /**
   * By ARIA, which keeps the focus where it is when the last period is reached.
   *
   * @param {string} name
   * @param {boolean} isDisabled
   */
  #disable(name, isDisabled) {
    this.#button(name).setAttribute("aria-disabled", String(isDisabled));
  }

  /** @param {string} name */
  #button(name) {
    return part(this.#line, `.${name}`, HTMLButtonElement);
  }

  /** @param {string} text */
  #say(text) {
    part(this.#line, "[role=status]", HTMLElement).textContent = text;
  }
}
