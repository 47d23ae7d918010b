/**
 * `<live-leaderboard src="wss://scores.example.org/ws/leaderboard/" board="weekly">`: the top 10 as a live table.
 *
 * It uses a table that the server rendered into it, or makes one. Its styles are in live-leaderboard.css, which the
 * page links. Attributes: `src`, the URL of the socket; `board`, the name of a board beside the default one; `api`, the URL to poll while sockets are blocked; `me`, the
 * user id whose row is marked. A board that is not public needs the property `token`. It is no attribute, since
 * attributes are in the document, where everybody reads them. It dispatches the events of its client, `update` and
 * `state`.
 *
 * @typedef {import("./client.js").Entry} Entry
 * @typedef {import("./client.js").State} State
 * @typedef {import("./client.js").Token} Token
 * @typedef {import("./client.js").Update} Update
 * @typedef {{rank: number, score: number}} Standing
 * @typedef {{body: HTMLTableSectionElement, foot: HTMLTableSectionElement, mine: Line, news: HTMLElement}} Parts
 * @typedef {{leaderboard: Entry[], startsAt: string | null, endsAt: string | null}} Past
 */

import { LeaderboardClient, ranked } from "./client.js";
import { part } from "./parts.js";

export const DEFAULT_BOARD = "leaderboard";
const GLIDE_MS = 450;
const COUNT_MS = 600;
const MARK_MS = 4_000; // how long a row shows how far it moved
const TELL_EVERY_MS = 10_000; // at least, between two sentences for screen readers
const LONG = 1e10; // scores from here on need a wider column
const [SECOND_MS, MINUTE_MS, HOUR_MS, DAY_MS] = [1_000, 60_000, 3_600_000, 86_400_000];
const EASE = "cubic-bezier(0.2, 0, 0, 1)";

const SKELETON = `
<p class="state" data-state="connecting"><span>Connecting</span></p>
<table>
<caption>Top 10</caption>
<thead><tr><th scope="col">Rank</th><th scope="col">Player</th>
<th scope="col"><span class="hidden">Change</span></th><th scope="col">Score</th></tr></thead>
<tbody></tbody>
</table>`;
const ROW = `
<td class="rank"></td><th scope="row" class="player"><bdi></bdi></th><td class="change"></td>
<td class="score"><span></span><svg class="share" aria-hidden="true"><rect width="0%" height="100%"/></svg></td>`;

const numbers = new Intl.NumberFormat("en");
const still = matchMedia("(prefers-reduced-motion: reduce)");

export class LiveLeaderboard extends HTMLElement {
  static observedAttributes = ["src", "board", "api", "me"];

  /** @type {Map<string, Line>} by user id */
  #lines = new Map();
  /** @type {LeaderboardClient | undefined} */
  #client;
  /** @type {Token | undefined} */
  #token;
  /** @type {Parts | undefined} once it was in a document */
  #built;
  /** @type {Standing | undefined} */
  #standing;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #saying;
  #toldAt = -Infinity;
  #told = "";
  /** @type {Update | undefined} the newest of a board beside the default one */
  #current;
  #ahead = 0; // of the server's clock before this one, in ms
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #counting;
  /** @type {Past | undefined} */
  #past;
  #count = () => this.#countDown();

  connectedCallback() {
    if (Object.hasOwn(this, "token")) {
      // It was set before this module had run, and would hide the property of the class.
      this.#token = this.token;
      delete this.token;
    }
    this.#pin();
    document.addEventListener("visibilitychange", this.#count);
    if (!this.#past) this.#connect();
  }

  disconnectedCallback() {
    document.removeEventListener("visibilitychange", this.#count);
    clearTimeout(this.#counting);
    this.#client?.close();
    this.#client = undefined;
  }

  /**
   * @param {string} name
   * @param {string | null} before
   * @param {string | null} now
   */
  attributeChangedCallback(name, before, now) {
    if (!this.isConnected || !this.#built || before === now) return;
    if (name === "me") {
      this.#standing = undefined;
      this.#pin();
    } else if (name === "board") this.#switch();
    else if (!this.#past) this.#connect();
  }

  /** The client whose board is shown. */
  get client() {
    return this.#client;
  }

  /**
   * A function that returns an access token, or nothing; called anew for each connection. Another function may be
   * another person's: the table begins empty.
   */
  get token() {
    return this.#token;
  }

  set token(token) {
    if (token === this.#token) return;
    this.#token = token;
    if (this.isConnected && this.#built && !this.#past) this.#switch();
  }

  /** Rank and score of the player `me`, `{rank, score}`; shown under the table while they are not in the top 10. */
  get standing() {
    return this.#standing;
  }

  set standing(standing) {
    this.#standing = standing;
    if (this.#built) this.#pin();
  }

  /** The ended period that is shown instead of the current one; `undefined` goes back to now. */
  get past() {
    return this.#past;
  }

  set past(past) {
    if (past === this.#past) return;
    if (past === undefined) {
      this.#switch();
      return;
    }
    this.#client?.close();
    this.#client = undefined;
    this.#empty();
    this.#past = past;
    this.#show(past.leaderboard);
    this.#state("past", "Ended", "This period is over");
    this.#countDown();
  }

  /** Shows the current period of the board that the attribute names, from an empty table on. */
  #switch() {
    this.#empty();
    this.#connect();
    this.#state("connecting", "Connecting"); // the client before has just said that it is closed
  }

  #empty() {
    this.#past = this.#current = this.#standing = undefined;
    this.#lines = new Map();
    arrange(this.#parts.body, []);
    this.#pin();
    this.#countDown();
    clearTimeout(this.#saying);
    this.#told = "";
    this.#toldAt = -Infinity;
  }

  #connect() {
    this.#client?.close();
    this.#client = undefined;
    const src = this.getAttribute("src");
    if (src === null) return;
    const [board, api] = ["board", "api"].map((name) => this.getAttribute(name) || undefined);
    const client = (this.#client = new LeaderboardClient(src, { board, token: this.#token, api }));
    client.addEventListener("update", ({ detail }) => {
      if (detail.type === "board_update") this.#enter(detail);
      this.#show(detail.leaderboard);
      this.dispatchEvent(new CustomEvent("update", { detail, bubbles: true }));
    });
    client.addEventListener("state", ({ detail }) => {
      this.#tell(detail);
      this.dispatchEvent(new CustomEvent("state", { detail, bubbles: true }));
    });
  }

  // The period

  /**
   * Notes the period of an update, and the server's clock.
   *
   * @param {Update} update
   */
  #enter(update) {
    const before = this.#current;
    this.#current = update;
    if (update.at !== undefined) this.#ahead = Date.parse(update.at) - Date.now();
    if (before && before.period !== update.period) {
      this.#lines = new Map(); // rows of another period did not move here
      this.#toldAt = -Infinity; // rare, and more than a new leader: nothing to wait for
      this.#say("A new period has begun.");
    }
    this.#countDown();
  }

  /** Shows how long the period lasts still, until it shows something else. A hidden page need not know. */
  #countDown() {
    clearTimeout(this.#counting);
    const { text, waitMs } = this.#past
      ? { text: datesOf(this.#past), waitMs: undefined }
      : remaining(this.#current, Date.now() + this.#ahead);
    let line = this.querySelector(".period");
    if (text !== "" && !line) {
      line = Object.assign(document.createElement("p"), { className: "period" });
      part(this, "table", HTMLTableElement).after(line);
    }
    if (text === "") line?.remove();
    else if (line && line.textContent !== text) line.textContent = text;
    if (waitMs !== undefined && !document.hidden) this.#counting = setTimeout(this.#count, waitMs);
  }

  // The table

  get #parts() {
    return (this.#built ??= this.#build());
  }

  #build() {
    if (!this.querySelector("table")) this.innerHTML = SKELETON;
    const table = part(this, "table", HTMLTableElement);
    const body = table.tBodies[0];
    for (const row of body.rows) {
      if (row.dataset.user !== undefined) this.#lines.set(row.dataset.user, new Line(row));
    }
    const foot = table.createTFoot();
    const mine = new Line(filled(foot.insertRow()));
    mine.row.className = "me";
    // A sentence about what has changed: as a live region, the table would read out every frame.
    const news = document.createElement("p");
    news.className = "hidden";
    news.setAttribute("role", "status");
    this.append(news);
    return { body, foot, mine, news };
  }

  /** @param {Entry[]} entries best first */
  #show(entries) {
    const first = this.#lines.size === 0;
    const before = new Map([...this.#lines.values()].map((line) => [line, line.position()]));
    /** @type {Map<string, Line>} */
    const now = new Map();
    for (const { userId, score, rank } of ranked(entries)) {
      const line = this.#lines.get(userId) ?? new Line(newRow(userId));
      line.show({ rank, score, share: shareOf(score, entries[0].score), quiet: first });
      now.set(userId, line);
    }
    this.#lines = now;
    const lines = [...now.values()];
    this.toggleAttribute(
      "data-long",
      entries.some(({ score }) => Math.abs(score) >= LONG),
    );
    const nobody = this.#past ? "Nobody scored." : this.#current ? "Nobody yet." : "No scores yet.";
    arrange(this.#parts.body, lines.length > 0 ? lines.map((line) => line.row) : [emptyRow(nobody)]);
    if (!still.matches && !first) {
      for (const line of lines) line.glide(before.get(line));
    }
    this.#pin();
    if (!this.#past) this.#announce(entries);
  }

  #pin() {
    const me = this.getAttribute("me");
    for (const [userId, { row }] of this.#lines) row.classList.toggle("me", userId === me);
    const { foot, mine } = this.#parts;
    const { row } = mine;
    foot.hidden = me === null || this.#past !== undefined;
    row.classList.toggle("unneeded", me !== null && this.#lines.has(me)); // keeps its space: nothing below it jumps
    if (me === null) return;
    label(row, me);
    const top = this.#client?.newest?.leaderboard[0]?.score;
    // No points are 0 points. On other boards no score is none: where lower is better, 0 would be a perfect one.
    const ranksPoints = (this.getAttribute("board") || DEFAULT_BOARD) === DEFAULT_BOARD;
    const score = this.#standing?.score ?? (ranksPoints ? 0 : undefined);
    mine.show({ rank: this.#standing?.rank, score, share: shareOf(score ?? 0, top ?? 0), quiet: true });
  }

  // The state

  /** @param {State} state */
  #tell({ state, since }) {
    const time = since && timeOf(since);
    const text = {
      connecting: "Connecting",
      live: "Live",
      polling: "Every 5 seconds",
      stale: `Stale since ${time}`,
      reconnecting: time ? `Reconnecting · as of ${time}` : "Reconnecting",
      refused: time ? `No access · as of ${time}` : "No access",
      paused: time ? `Paused · as of ${time}` : "Paused",
      closed: "Not live",
    }[state];
    this.#state(state, text, TITLES[state]);
    if (state === "stale" || state === "reconnecting") this.#say(`${text}. The board may be out of date.`);
    if (state === "refused") this.#say("You have no access to this board.");
    if (state === "live" && this.#told.includes("out of date")) this.#say("The board is live again.");
  }

  /**
   * @param {string} state
   * @param {string} text
   * @param {string} title
   */
  #state(state, text, title = "") {
    const output = part(this, ".state", HTMLElement);
    part(output, "span", HTMLElement).textContent = text;
    output.title = title;
    output.dataset.state = this.dataset.state = state;
  }

  /**
   * Says who leads, if that has changed and `TELL_EVERY_MS` has passed since the last sentence.
   *
   * @param {Entry[]} entries best first
   */
  #announce([leader]) {
    if (!leader) return;
    const said = `${leader.userId} leads`;
    if (this.#told.startsWith(said) || performance.now() - this.#toldAt < TELL_EVERY_MS) return;
    if (this.#toldAt === -Infinity) {
      // A screen reader can read the table itself; only later changes are news.
      this.#told = said;
      this.#toldAt = performance.now();
    } else this.#say(`${said} with ${numbers.format(leader.score)}.`);
  }

  /** @param {string} text */
  #say(text) {
    clearTimeout(this.#saying);
    const wait = Math.max(0, this.#toldAt + TELL_EVERY_MS - performance.now());
    this.#saying = setTimeout(() => {
      this.#parts.news.textContent = this.#told = text;
      this.#toldAt = performance.now();
    }, wait);
  }
}

/** @type {Partial<Record<State["state"], string>>} */
const TITLES = {
  live: "Each change is shown at once",
  polling: "The live connection is blocked, so the page loads the board every few seconds",
  stale: "Connected, but the service cannot look for newer scores right now",
  reconnecting: "The connection is lost; this is the last known board",
  refused: "To see this board, sign in, or sign in again",
  paused: "This page was hidden; it reconnects now",
};

/** One row, and what it shows now. */
class Line {
  /** @type {number | "new" | undefined} the rank before it moved, while it shows how far */
  markedFrom;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  marking;
  /** @type {Animation | undefined} */
  gliding;
  counting = 0;

  /** @param {HTMLTableRowElement} row */
  constructor(row) {
    this.row = row;
    this.place = part(row, ".rank", HTMLElement);
    this.change = part(row, ".change", HTMLElement);
    this.bar = part(row, "rect", SVGRectElement);
    this.text = part(row, ".score span", HTMLElement);
    /** @type {number | undefined} */
    this.rank = Number(this.place.textContent) || undefined;
    this.counted = Number(row.dataset.score ?? 0);
    /** @type {number | undefined} */
    this.score = this.counted;
  }

  /**
   * @param {object} what
   * @param {number | undefined} what.rank undefined while the player has no score
   * @param {number | undefined} what.score shown as a dash if undefined
   * @param {number} what.share of the highest score, 0 to 1
   * @param {boolean} what.quiet without animation
   */
  show({ rank, score, share, quiet }) {
    if (!quiet && rank !== undefined) this.#mark(rank);
    this.rank = rank;
    this.row.dataset.rank = this.place.textContent = String(rank ?? "–");
    this.#stretch(`${(100 * share).toFixed(2)}%`, quiet);
    if (score === undefined) this.#dash();
    else {
      if (score !== this.score || this.text.textContent === "") this.#count(score, quiet);
      this.row.dataset.score = String(score);
    }
    this.score = score;
  }

  /**
   * Shows how far the row has moved since it last stood still.
   *
   * @param {number} rank
   */
  #mark(rank) {
    if (rank === this.rank) return;
    this.markedFrom ??= this.rank ?? "new";
    clearTimeout(this.marking);
    this.marking = setTimeout(() => {
      this.markedFrom = undefined;
      this.change.replaceChildren();
    }, MARK_MS);
    const by = this.markedFrom === "new" ? "new" : this.markedFrom - rank;
    this.change.replaceChildren(...(by === 0 ? [] : [mark(by)]));
  }

  /**
   * @param {string} width in percent
   * @param {boolean} quiet
   */
  #stretch(width, quiet) {
    if (this.bar.getAttribute("width") === width) return;
    const from = getComputedStyle(this.bar).width;
    this.bar.setAttribute("width", width);
    if (!quiet && !still.matches) this.bar.animate({ width: [from, width] }, { duration: COUNT_MS, easing: EASE });
  }

  #dash() {
    cancelAnimationFrame(this.counting);
    this.counted = 0;
    this.text.textContent = "–";
    delete this.row.dataset.score;
  }

  /**
   * Counts from the number that is shown now, even in mid-animation, to the new one.
   *
   * @param {number} score
   * @param {boolean} quiet
   */
  #count(score, quiet) {
    cancelAnimationFrame(this.counting);
    const from = this.counted;
    const started = performance.now();
    /** @param {number} now */
    const step = (now) => {
      const part = Math.min(1, Math.max(0, now - started) / COUNT_MS);
      this.counted = part === 1 ? score : Math.round(from + (score - from) * (1 - (1 - part) ** 3));
      this.text.textContent = numbers.format(this.counted);
      if (part < 1) this.counting = requestAnimationFrame(step);
    };
    step(quiet || still.matches || document.hidden ? Infinity : started);
  }

  /** Where the row is in the layout, and where it is drawn: during a glide the two differ. */
  position() {
    return { belongs: this.row.offsetTop, drawn: this.row.getBoundingClientRect().top };
  }

  /**
   * First, last, invert, play: the row is in its new place already, and is drawn on the way there.
   *
   * @param {{belongs: number, drawn: number} | undefined} before its position before the change, if it had one
   */
  glide(before) {
    const { row } = this;
    if (before === undefined) {
      row.animate({ opacity: [0, 1] }, { duration: GLIDE_MS, easing: EASE });
      return;
    }
    // With twenty frames a second, a glide that each frame restarted would never end.
    if (before.belongs === row.offsetTop) return;
    this.gliding?.cancel();
    const by = before.drawn - row.getBoundingClientRect().top;
    row.classList.toggle("rising", by > 0);
    this.gliding = row.animate({ transform: [`translateY(${by}px)`, "none"] }, { duration: GLIDE_MS, easing: EASE });
    this.gliding.onfinish = () => row.classList.remove("rising");
  }
}

/**
 * Puts the rows into the table in this order, and touches only rows in another place.
 *
 * @param {HTMLTableSectionElement} body
 * @param {HTMLTableRowElement[]} rows
 */
function arrange(body, rows) {
  rows.forEach((row, index) => {
    if (body.rows[index] !== row) body.insertBefore(row, body.rows[index] ?? null);
  });
  while (body.rows.length > rows.length) body.lastElementChild?.remove();
}

/** @param {string} userId */
function newRow(userId) {
  const row = filled(document.createElement("tr"));
  row.dataset.user = userId;
  label(row, userId);
  return row;
}

/** @param {HTMLTableRowElement} row */
function filled(row) {
  row.innerHTML = ROW;
  return row;
}

/**
 * Shows a user id as text, isolated: it may contain markup, or control characters that reorder the text around it.
 *
 * @param {HTMLTableRowElement} row
 * @param {string} userId
 */
function label(row, userId) {
  const bdi = part(row, "bdi", HTMLElement);
  if (bdi.title !== userId) bdi.textContent = bdi.title = userId;
}

/** @param {string} text */
function emptyRow(text) {
  const row = document.createElement("tr");
  row.className = "empty";
  const cell = row.insertCell();
  cell.colSpan = 4;
  cell.textContent = text;
  return row;
}

/** @param {number | "new"} by how many ranks up; negative is down */
function mark(by) {
  const span = document.createElement("span");
  if (by === "new") {
    span.className = span.textContent = "new";
    return span;
  }
  span.className = by > 0 ? "up" : "down";
  const arrow = Object.assign(document.createElement("span"), { textContent: by > 0 ? "▲" : "▼" });
  arrow.setAttribute("role", "img");
  arrow.setAttribute("aria-label", by > 0 ? "up" : "down");
  span.append(arrow, ` ${Math.abs(by)}`);
  return span;
}

/**
 * The length of the line under a row: the first row's is whole, whether a higher or a lower score is better. There is
 * no part of nothing, nor of less.
 *
 * @param {number} score
 * @param {number} first the score of the first row
 */
function shareOf(score, first) {
  return score > 0 && first > 0 ? Math.min(score, first) / Math.max(score, first) : 0;
}

/**
 * How long a period lasts still, in words, and in how many milliseconds other words will be right.
 *
 * @param {Update | undefined} update
 * @param {number} now by the server's clock
 * @returns {{text: string, waitMs?: number}}
 */
function remaining(update, now) {
  const startsIn = Date.parse(update?.startsAt ?? "") - now;
  if (startsIn > 0) return inWords("Starts", startsIn);
  const endsIn = Date.parse(update?.endsAt ?? "") - now;
  if (Number.isNaN(endsIn)) return { text: "" };
  if (endsIn > 0) return inWords("Resets", endsIn);
  return { text: update?.isCurrent ? "Resets now" : "Ended" }; // the next update says what follows
}

/**
 * @param {string} what
 * @param {number} ms
 */
function inWords(what, ms) {
  const units = /** @type {const} */ ([
    [DAY_MS, "d"],
    [HOUR_MS, "h"],
    [MINUTE_MS, "min"],
  ]);
  // Two of a unit at least: "in 1 h" could be nearly two.
  const [unit, name] = units.find(([unit]) => ms >= 2 * unit) ?? [SECOND_MS, "s"];
  return { text: `${what} in ${Math.max(1, Math.floor(ms / unit))} ${name}`, waitMs: Math.max(50, ms % unit) + 1 };
}

/** @param {Past} past */
function datesOf({ startsAt, endsAt }) {
  const dates = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  const ends = endsAt === null ? "" : dates.format(new Date(endsAt));
  return startsAt === null ? ends && `Until ${ends}` : `${dates.format(new Date(startsAt))} – ${ends}`;
}

/** @param {Date} date */
function timeOf(date) {
  const today = date.toDateString() === new Date().toDateString();
  return today ? date.toLocaleTimeString("en-GB") : date.toLocaleString("en-GB");
}

customElements.define("live-leaderboard", LiveLeaderboard);
