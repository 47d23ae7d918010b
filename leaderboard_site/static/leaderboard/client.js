/** The socket of the board, kept open: states, backoff, and frames that never go back. */

/** @typedef {{userId: string, score: number}} Entry */
/** @typedef {{type: "leaderboard_update", leaderboard: Entry[], epoch: string, seq: number}} Update */

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000;
const LIVED_MS = 5_000; // a connection that lasted this long was a good one: the next failure starts from the first wait
const SILENT_MS = 40_000; // the server repeats its frame every 25 s, so this long without one means that the line is dead

/**
 * Dispatches `update` (a CustomEvent whose detail is an {@link Update}) and `state`, whose detail is "live" or
 * "reconnecting". Reconnects for ever, until `close()`.
 */
export class LeaderboardClient extends EventTarget {
  /** @param {string | URL} url of the socket, e.g. "wss://scores.example.org/ws/leaderboard/" */
  constructor(url) {
    super();
    this.url = url;
    this.failures = 0;
    /** @type {Update | undefined} */
    this.newest = undefined;
    this.#open();
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    clearTimeout(this.watchdog);
    this.socket.close();
  }

  #open() {
    const socket = (this.socket = new WebSocket(this.url));
    const opened = performance.now();
    socket.onmessage = (message) => this.#take(JSON.parse(message.data));
    socket.onclose = () => {
      clearTimeout(this.watchdog);
      if (this.closed) return;
      this.failures = performance.now() - opened > LIVED_MS ? 0 : this.failures + 1;
      // Full jitter: a thousand pages that lost one server must not come back as one wave.
      const longest = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.failures);
      this.timer = setTimeout(() => this.#open(), Math.random() * longest);
      this.dispatchEvent(new CustomEvent("state", { detail: "reconnecting" }));
    };
    this.#watch();
  }

  /** @param {Update} update */
  #take(update) {
    this.#watch();
    this.dispatchEvent(new CustomEvent("state", { detail: "live" }));
    const newest = this.newest;
    if (newest && update.epoch === newest.epoch && update.seq < newest.seq) return;
    this.newest = update;
    this.dispatchEvent(new CustomEvent("update", { detail: update }));
  }

  #watch() {
    clearTimeout(this.watchdog);
    const socket = this.socket;
    this.watchdog = setTimeout(() => socket.close(), SILENT_MS);
  }
}
