/**
 * The top 10 of a leaderboard or of another board, kept up to date through its socket, or by polling every few seconds where sockets are
 * blocked. It has no dependencies and runs in browsers. Types are in client.d.ts.
 *
 * @typedef {import("./client.d.ts").Entry} Entry
 * @typedef {import("./client.d.ts").Update} Update
 * @typedef {import("./client.d.ts").State} State
 * @typedef {import("./client.d.ts").Options} Options
 * @typedef {import("./client.d.ts").Token} Token
 */

const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 30_000;
const LIVED_MS = 5_000; // after a connection that lasted this long, the waits start again from the first
const QUIET_MS = 30_000; // the server repeats its frame every 25 s; without one for this long, the board is stale
const SILENT_MS = 60_000; // two of them are missing: the connection is dead
const POLL_AFTER = 3; // failures in a row
const POLL_MS = 5_000;
const STALE_S = 2; // from this age on, the server calls a board stale in its frames
const HIDDEN_MS = 5_000; // a short visit to another tab costs no new connection
const PROTOCOL = "leaderboard.v1"; // offered beside a token, since a browser fails a socket of which none was selected
const NOT_AUTHENTICATED = 4401; // the socket closes with it without a good token, and when its token expires
const NO_SUCH_BOARD = 4404; // the socket closes with it when its board is deleted
const DEFAULT_BOARD = "leaderboard";
const EPOCH_OF_BOARD = /^(.+)-\d+-\d+-\d+-\d+-[0-9a-f]+"$/;

/**
 * How long to wait after this many failures in a row. Full jitter: a thousand pages that lost one server must not come
 * back at the same time.
 *
 * @param {number} failures from 1
 * @param {() => number} random
 */
export function waitMs(failures, random = Math.random) {
  return random() * Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** (failures - 1));
}

/**
 * Somewhat more or less than `ms`, so that pages which began together do not stay together.
 *
 * @param {number} ms
 */
function around(ms) {
  return ms * (0.75 + Math.random() / 2);
}

/**
 * Whether `update` is known to be older than `shown`: of an earlier event, or of an earlier period, which ends between
 * two events. Updates of two epochs cannot be compared.
 *
 * @param {Update} update
 * @param {Update | undefined} shown
 */
export function isOlder(update, shown) {
  if (shown === undefined || update.epoch !== shown.epoch) return false;
  return update.seq < shown.seq || Number(update.period ?? 0) < Number(shown.period ?? 0);
}

/**
 * The entries with their ranks: one plus the number of entries with a strictly higher score, so 1, 1, 3. Entries of a
 * board beside the default one have their ranks already, since on some a lower score is better.
 *
 * @param {Entry[]} entries best first
 */
export function ranked(entries) {
  let rank = 1;
  return entries.map((entry, index) => {
    if (index > 0 && entry.score < entries[index - 1].score) rank = index + 1;
    return { ...entry, rank: entry.rank ?? rank };
  });
}

/**
 * Converts a response of `GET /api/v1/leaderboard` to the shape of a frame. The epoch is the first part of its ETag.
 *
 * @param {{leaderboard: (Entry & {rank: number})[], seq: number}} body
 * @param {string} etag
 * @returns {Update}
 */
export function updateOf({ leaderboard, seq }, etag) {
  const epoch = etag.match(/^(?:W\/)?"(.+)-\d+-\d+-\d+"$/)?.[1] ?? etag;
  const entries = leaderboard.map(({ userId, score }) => ({ userId, score }));
  return { type: "leaderboard_update", leaderboard: entries, epoch, seq };
}

/**
 * Converts a response of `GET /api/v1/boards/{board}` to the shape of a frame. The epoch is a part of its ETag.
 *
 * @param {Omit<import("./client.d.ts").BoardPage, "total">} body
 * @param {string} etag
 * @param {string | null} date the header `Date`, which scripts of another site cannot read
 * @returns {Update}
 */
export function boardUpdateOf({ board, period, startsAt, endsAt, isCurrent, leaderboard, seq }, etag, date) {
  const epoch = etag.slice(etag.indexOf(`"${board}-`) + board.length + 2).match(EPOCH_OF_BOARD)?.[1] ?? etag;
  const entries = leaderboard.map(({ rank, userId, score }) => ({ rank, userId, score }));
  const at = date === null ? undefined : new Date(date).toISOString();
  return { type: "board_update", board, period, startsAt, endsAt, isCurrent, at, leaderboard: entries, epoch, seq };
}

/**
 * Dispatches `update` (its detail is an {@link Update}) for each board that is not older than the one before, and
 * `state` (its detail is a {@link State}) when the state of the board changes. Keeps trying until `close()`.
 */
export class LeaderboardClient extends EventTarget {
  #url;
  #api;
  /** @type {string | undefined} undefined for the default board */
  #board;
  /** @type {Token | undefined} the function, never what it returned */
  #token;
  /** @type {WebSocket | undefined} */
  #socket;
  /** @type {symbol | undefined} set while a socket waits for its token */
  #asking;
  #openedAt = Infinity;
  #failures = 0;
  #paused = false;
  #closed = false;
  /** @type {"socket" | "polling" | undefined} what brings the board right now */
  #line;
  #stale = false;
  #refused = false;
  /** @type {number | undefined} when the board was last known to be current, in ms since 1970 */
  #knownAt;
  /** @type {Update | undefined} */
  #newest;
  /** @type {State} */
  #state = { state: "connecting", since: undefined };
  #etag = "";
  /** @type {AbortController | undefined} set while the client polls */
  #polling;
  /** @type {Record<string, ReturnType<typeof setTimeout>>} */
  #timers = {};
  #listening = new AbortController();

  /**
   * @param {string | URL} url of the socket: "wss://scores.example.org/ws/leaderboard/"; in a page it may be relative
   * @param {Options} options
   */
  constructor(url, { board = DEFAULT_BOARD, token, api, pause = true } = {}) {
    super();
    this.#url = new URL(url, globalThis.document?.baseURI);
    this.#url.protocol = this.#url.protocol.replace("http", "ws");
    const root = this.#url.pathname.replace(/(\/ws\/leaderboard)?\/?$/, "");
    let beside = `${root}/api/v1/leaderboard`;
    if (board !== DEFAULT_BOARD) {
      const name = encodeURIComponent((this.#board = board));
      this.#url.pathname = `${root}/ws/boards/${name}/`;
      beside = `${root}/api/v1/boards/${name}`;
      this.#token = token; // the default board is for everybody, and its socket selects no protocol
    }
    this.#api = new URL(api ?? beside, this.#url.href.replace(/^ws/, "http"));
    const { signal } = this.#listening;
    if (pause) globalThis.document?.addEventListener("visibilitychange", () => this.#look(), { signal });
    globalThis.addEventListener?.("offline", () => this.#lose(), { signal });
    globalThis.addEventListener?.("online", () => this.#retry(), { signal });
    this.#open();
  }

  /** The newest update, if there was one. */
  get newest() {
    return this.#newest;
  }

  /** The current state. */
  get state() {
    return this.#state;
  }

  /** Disconnects for good. */
  close() {
    this.#closed = true;
    this.#listening.abort();
    const socket = this.#socket;
    if (socket?.readyState === WebSocket.CONNECTING) {
      // A browser calls it an error if a socket is closed before it is open, as when somebody leafs through boards.
      this.#socket = undefined;
      socket.onmessage = socket.onclose = null;
      socket.onopen = () => socket.close();
    }
    this.#hangUp();
    this.#tell();
  }

  // The socket

  #open() {
    if (this.#token) this.#openByToken();
    else this.#connect();
  }

  async #openByToken() {
    const asking = (this.#asking = Symbol("asking"));
    this.#openedAt = Infinity;
    this.#after("silent", SILENT_MS, () => this.#lose()); // the function may never answer
    try {
      const token = await this.#ask();
      if (this.#asking === asking) this.#connect(token ? [PROTOCOL, `bearer.${token}`] : []);
    } catch {
      // Nobody is told the error: that of a token which is no subprotocol quotes it.
      if (this.#asking === asking) this.#lose();
    }
  }

  /** The token of this moment, if there is one. It is asked for later, so not before somebody can listen. */
  #ask() {
    return Promise.resolve().then(this.#token);
  }

  /** @param {string[]} [protocols] */
  #connect(protocols) {
    const socket = (this.#socket = new WebSocket(this.#url, protocols));
    this.#asking = undefined;
    this.#openedAt = Infinity;
    socket.onopen = () => (this.#openedAt = performance.now());
    socket.onmessage = ({ data }) => this.#hear(data);
    socket.onclose = ({ code }) => {
      if (code === NO_SUCH_BOARD) this.#newest = undefined; // another one of its name counts its periods from 1
      // A socket that has brought the board ends so when its token expires: the next one may bring a newer token.
      this.#lose(code === NOT_AUTHENTICATED && this.#line !== "socket");
    };
    this.#after("silent", SILENT_MS, () => this.#lose());
  }

  /** @param {string} data */
  #hear(data) {
    const update = JSON.parse(data);
    if (update.type !== (this.#board === undefined ? "leaderboard_update" : "board_update")) return;
    this.#stopPolling();
    this.#after("quiet", QUIET_MS, () => {
      this.#stale = true;
      this.#tell();
    });
    this.#after("silent", SILENT_MS, () => this.#lose());
    this.#take("socket", update, update.age);
  }

  /**
   * The socket is closed or dead: connect again later, and poll until then after several failures. If the service is
   * there and refused the token, polling would be refused too, and so would be whoever comes again soon.
   */
  #lose(refused = false) {
    if (this.#closed || this.#paused || !(this.#socket || this.#asking)) return;
    const lived = performance.now() - this.#openedAt > LIVED_MS;
    this.#failures = refused ? 0 : lived ? 1 : this.#failures + 1;
    this.#dropSocket();
    if (refused) this.#stopPolling();
    if (refused || !this.#polling) this.#refused = refused; // while the client polls, the answers say so
    this.#after("retry", refused ? around(LONGEST_WAIT_MS) : waitMs(this.#failures), () => this.#open());
    if (this.#line === "socket" || refused) this.#line = undefined;
    if (this.#failures >= POLL_AFTER && !this.#polling) this.#poll((this.#polling = new AbortController()));
    this.#tell();
  }

  #retry() {
    if (this.#closed || this.#paused || this.#socket || this.#asking) return;
    clearTimeout(this.#timers.retry);
    this.#open();
  }

  #dropSocket() {
    const socket = this.#socket;
    this.#socket = this.#asking = undefined;
    clearTimeout(this.#timers.quiet);
    clearTimeout(this.#timers.silent);
    if (!socket) return;
    // A dead connection can take minutes to report its close.
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  // Polling

  /** @param {AbortController} polling */
  async #poll(polling) {
    this.#after("patience", POLL_MS, () => this.#polling === polling && polling.abort());
    const { signal } = polling;
    let refused = false;
    try {
      const headers = await this.#headers(signal);
      const answer = await fetch(this.#api, { headers, cache: "no-store", credentials: "omit", signal });
      refused = this.#board !== undefined && (answer.status === 401 || answer.status === 403);
      if (answer.status !== 200 && answer.status !== 304) throw new Error(`HTTP ${answer.status}`);
      const etag = answer.headers.get("ETag") ?? "";
      const update = answer.status === 200 ? await this.#read(answer, etag) : this.#newest;
      if (this.#polling !== polling) return;
      this.#etag = etag;
      const age = Number(answer.headers.get("X-Leaderboard-Age"));
      const back = this.#line === undefined;
      if (update) this.#take("polling", update, age > STALE_S ? age : undefined);
      if (back) this.#retry(); // a server that answers again may accept sockets again
    } catch {
      if (this.#polling !== polling) return;
      if (this.#line === "polling") this.#line = undefined;
      this.#refused = refused;
      this.#tell();
    }
    const ms = around(refused ? LONGEST_WAIT_MS : POLL_MS);
    this.#after("poll", ms, () => this.#poll((this.#polling = new AbortController())));
  }

  /**
   * Rejects when `signal` says that it has taken too long: a token that never comes must not end the polling.
   *
   * @param {AbortSignal} signal
   */
  async #headers(signal) {
    /** @type {Record<string, string>} */
    const headers = {};
    if (this.#etag) headers["If-None-Match"] = this.#etag;
    if (!this.#token) return headers;
    const aborted = new Promise((_, reject) => signal.addEventListener("abort", reject));
    const token = await Promise.race([this.#ask(), aborted]);
    if (token) headers.Authorization = `Bearer ${token}`;
    return headers;
  }

  /**
   * @param {Response} answer
   * @param {string} etag
   */
  async #read(answer, etag) {
    const body = await answer.json();
    return this.#board === undefined ? updateOf(body, etag) : boardUpdateOf(body, etag, answer.headers.get("Date"));
  }

  #stopPolling() {
    const polling = this.#polling;
    this.#polling = undefined;
    polling?.abort();
    clearTimeout(this.#timers.poll);
    clearTimeout(this.#timers.patience);
  }

  // What is known

  /**
   * @param {"socket" | "polling"} line
   * @param {Update} update
   * @param {number | undefined} age seconds
   */
  #take(line, update, age) {
    this.#line = line;
    this.#knownAt = Date.now() - (age ?? 0) * 1000;
    this.#stale = age !== undefined;
    this.#refused = false;
    if (update !== this.#newest && !isOlder(update, this.#newest)) {
      this.#newest = update;
      this.dispatchEvent(new CustomEvent("update", { detail: update }));
    }
    this.#tell();
  }

  #tell() {
    const state = this.#name();
    const fresh = state === "live" || state === "polling";
    const since = fresh || this.#knownAt === undefined ? undefined : new Date(this.#knownAt);
    const before = this.#state;
    // An age comes in whole seconds, so the same moment differs a little each time.
    if (state === before.state && Math.abs(Number(since ?? 0) - Number(before.since ?? 0)) < 2000) return;
    this.#state = { state, since };
    this.dispatchEvent(new CustomEvent("state", { detail: this.#state }));
  }

  /** @returns {State["state"]} */
  #name() {
    if (this.#closed) return "closed";
    if (this.#paused) return "paused";
    if (!this.#line && this.#refused) return "refused";
    if (!this.#line) return this.#knownAt || this.#failures ? "reconnecting" : "connecting";
    if (this.#stale) return "stale";
    return this.#line === "polling" ? "polling" : "live";
  }

  // The tab

  #look() {
    clearTimeout(this.#timers.hidden);
    if (document.hidden) {
      this.#after("hidden", HIDDEN_MS, () => {
        this.#paused = true;
        this.#hangUp();
        this.#tell();
      });
    } else if (this.#paused) {
      this.#paused = false;
      this.#failures = 0;
      this.#open();
      this.#tell();
    }
  }

  #hangUp() {
    this.#dropSocket();
    this.#stopPolling();
    this.#line = undefined;
    for (const timer of Object.values(this.#timers)) clearTimeout(timer);
  }

  /**
   * @param {string} name
   * @param {number} ms
   * @param {() => void} then
   */
  #after(name, ms, then) {
    clearTimeout(this.#timers[name]);
    this.#timers[name] = setTimeout(then, ms);
  }
}
