/** A player who uses the API: signs up, in and out, keeps the tokens, and scores so that no retry counts twice. */

const TRIES = 5;
const FIRST_WAIT_MS = 250;

/** @typedef {{access: string, refresh: string}} Tokens */

/** An error response of the API: RFC 9457 problem details. */
export class Problem extends Error {
  /**
   * @param {number} status
   * @param {{code?: string, detail?: string, errors?: Record<string, string[]>}} body
   */
  constructor(status, { code = "unknown", detail = "The service sent an unexpected answer.", errors = {} } = {}) {
    super(detail);
    this.status = status;
    this.code = code;
    this.errors = errors;
  }
}

/** Dispatches `change` when the player signs in or out. */
export class Session extends EventTarget {
  #base;
  #storage;
  #key;
  /** Whether the player has just signed up and cannot have a score yet. */
  isNew = false;
  /** @type {Tokens | undefined} */
  #tokens;
  /** @type {Promise<void> | undefined} */
  #refreshing;

  /**
   * @param {string | URL} base URL of the service, such as "https://example.org/leaderboard"
   * @param {Storage} [storage] keeps the tokens across reloads; without it they stay in memory only
   * @param {string} [key] of the tokens in the storage
   */
  constructor(base, storage, key = "leaderboard.session") {
    super();
    this.#base = String(base).replace(/\/$/, "");
    this.#storage = storage;
    this.#key = key;
    const kept = storage?.getItem(key);
    if (kept) this.#tokens = JSON.parse(kept);
  }

  /** The user id, as the board shows it; undefined while signed out. */
  get userId() {
    return this.#tokens && claims(this.#tokens.access).user_id;
  }

  /**
   * @param {string} username
   * @param {string} password
   */
  async signUp(username, password) {
    const tokens = await this.#call("POST", "/api/v1/auth/register", { username, password });
    this.isNew = true;
    this.#keep(tokens);
  }

  /**
   * @param {string} username
   * @param {string} password
   */
  async signIn(username, password) {
    const tokens = await this.#call("POST", "/api/v1/auth/token", { username, password });
    this.isNew = false;
    this.#keep(tokens);
  }

  /** Forgets the tokens, and revokes the refresh token if the service can be reached. */
  async signOut() {
    const tokens = this.#tokens;
    this.#keep(undefined);
    if (tokens) await this.#call("POST", "/api/v1/auth/logout", { refresh: tokens.refresh }).catch(() => {});
  }

  /**
   * Adds points and returns the new total. The points count once, however many retries it takes.
   *
   * @param {number} points
   * @returns {Promise<number>}
   */
  async increment(points) {
    const headers = { "Idempotency-Key": randomKey() };
    for (let tried = 1; ; tried++) {
      try {
        const { newScore } = await this.#callAsPlayer("POST", "/api/v1/scores/increment", { points }, headers);
        this.isNew = false;
        return newScore;
      } catch (error) {
        const final = error instanceof Problem && error.status < 500;
        if (final || tried === TRIES) throw error;
        await sleep(Math.random() * FIRST_WAIT_MS * 2 ** tried);
      }
    }
  }

  /**
   * @param {string | null} board the name of a public board; null for the default one
   * @returns {Promise<{userId: string, score: number, rank: number, total: number, seq: number} | undefined>}
   */
  async standing(board) {
    const place = `/api/v1/boards/${board}/users/${encodeURIComponent(this.userId ?? "")}`;
    try {
      return await this.#callAsPlayer("GET", board === null ? "/api/v1/me" : place);
    } catch (error) {
      if (error instanceof Problem && error.code === "no_score") return undefined;
      throw error;
    }
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {object} [body]
   * @param {Record<string, string>} headers
   */
  async #callAsPlayer(method, path, body, headers = {}) {
    if (this.#tokens && claims(this.#tokens.access).exp * 1000 < Date.now()) await this.#refresh();
    try {
      return await this.#call(method, path, body, { ...headers, ...this.#authorization() });
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== 401 || !this.#tokens) throw error;
      await this.#refresh(); // the clock of the service decides, not this one
      return await this.#call(method, path, body, { ...headers, ...this.#authorization() });
    }
  }

  /** @returns {Record<string, string>} */
  #authorization() {
    return this.#tokens ? { Authorization: `Bearer ${this.#tokens.access}` } : {};
  }

  /** One refresh at a time: a refresh token works once, and a second use would sign the player out. */
  #refresh() {
    this.#refreshing ??= this.#renew().finally(() => (this.#refreshing = undefined));
    return this.#refreshing;
  }

  async #renew() {
    const tokens = this.#tokens;
    try {
      const renewed = await this.#call("POST", "/api/v1/auth/refresh", { refresh: tokens?.refresh });
      if (this.#tokens === tokens) this.#keep(renewed);
    } catch (error) {
      if (error instanceof Problem && error.status === 401 && this.#tokens === tokens) this.#keep(undefined);
      throw error;
    }
  }

  /** @param {Tokens | undefined} tokens */
  #keep(tokens) {
    const before = this.userId;
    this.#tokens = tokens && { access: tokens.access, refresh: tokens.refresh };
    if (this.#tokens) this.#storage?.setItem(this.#key, JSON.stringify(this.#tokens));
    else this.#storage?.removeItem(this.#key);
    if (this.userId !== before) this.dispatchEvent(new Event("change"));
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {object} [body]
   * @param {Record<string, string>} headers
   * @returns {Promise<any>} the body of the response, as docs/protocol.md describes it
   */
  async #call(method, path, body, headers = {}) {
    const answer = await fetch(this.#base + path, {
      method,
      headers: body ? { "Content-Type": "application/json", ...headers } : headers,
      body: body && JSON.stringify(body),
      cache: "no-store",
    });
    if (answer.status === 204) return undefined;
    const told = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Problem(answer.status, told);
    return told;
  }
}

/**
 * Returns the claims of a token. They are not verified: the service does that.
 *
 * @param {string} token
 * @returns {{user_id: string, exp: number}}
 */
function claims(token) {
  const base64 = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
  return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(base64), (sign) => sign.charCodeAt(0))));
}

/** Like `crypto.randomUUID`, which does not exist on a page served over plain HTTP. */
function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @param {number} ms */
function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
