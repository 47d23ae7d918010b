/** A player of the API: signs up, in and out, keeps the tokens, and scores so that no retry counts twice. */

const TRIES = 5;
const FIRST_WAIT_MS = 250;

/** @typedef {{access: string, refresh: string}} Tokens */

/** An answer of the API that is not a success: RFC 9457 problem details. */
export class Problem extends Error {
  /**
   * @param {number} status
   * @param {{code?: string, detail?: string, errors?: Record<string, string[]>}} body
   */
  constructor(status, { code = "unknown", detail = "The service did not answer as expected.", errors = {} } = {}) {
    super(detail);
    this.status = status;
    this.code = code;
    this.errors = errors;
  }
}

/** Dispatches `change` when the player does. */
export class Session extends EventTarget {
  #base;
  #storage;
  #key;
  /** Whether there cannot be a score: they just signed up. */
  isNew = false;
  /** @type {Tokens | undefined} */
  #tokens;
  /** @type {Promise<void> | undefined} */
  #refreshing;

  /**
   * @param {string | URL} base of the service, such as "https://scores.example.org"
   * @param {Storage} [storage] where the tokens outlive a reload; without one they live in memory only
   * @param {string} [key] their place in it
   */
  constructor(base, storage, key = "leaderboard.session") {
    super();
    this.#base = base;
    this.#storage = storage;
    this.#key = key;
    const kept = storage?.getItem(key);
    if (kept) this.#tokens = JSON.parse(kept);
  }

  /** The user id, as the board has it; undefined when nobody is signed in. */
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

  /** Forgets the tokens, and uses the refresh token up if the service can be reached. */
  async signOut() {
    const tokens = this.#tokens;
    this.#keep(undefined);
    if (tokens) await this.#call("POST", "/api/v1/auth/logout", { refresh: tokens.refresh }).catch(() => {});
  }

  /**
   * Adds points and answers with the new total. It is counted once, however often it has to be sent.
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

  /** @returns {Promise<{userId: string, score: number, rank: number, total: number, seq: number} | undefined>} */
  async standing() {
    try {
      return await this.#callAsPlayer("GET", "/api/v1/me");
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
      await this.#refresh(); // their clock is the one that counts
      return await this.#call(method, path, body, { ...headers, ...this.#authorization() });
    }
  }

  /** @returns {Record<string, string>} */
  #authorization() {
    return this.#tokens ? { Authorization: `Bearer ${this.#tokens.access}` } : {};
  }

  /** One at a time: a refresh token is good for one use, and a second one would sign the player out. */
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
   * @returns {Promise<any>} whatever the address answers; docs/protocol.md says what
   */
  async #call(method, path, body, headers = {}) {
    const answer = await fetch(new URL(path, this.#base), {
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
 * What a token says. It is not verified: that is the service's part.
 *
 * @param {string} token
 * @returns {{user_id: string, exp: number}}
 */
function claims(token) {
  const base64 = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
  return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(base64), (sign) => sign.charCodeAt(0))));
}

/** Like `crypto.randomUUID`, which plain HTTP does not have. */
function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @param {number} ms */
function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
