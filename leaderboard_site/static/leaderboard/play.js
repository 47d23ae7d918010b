/** Simulated players, who use the API as real players do, so that a new board has something to show. */

import { Problem, Session } from "./session.js";

const NAMES = ["Amara", "Ines", "Kofi", "Leila", "Linnea", "Mateo", "Mina", "Oskar", "Ravi", "Tomasz", "Yuki", "Zoë"];
const PASSWORD = "nobody is at the keyboard"; // no secret: everyone who can open this page may play as them

/** Twelve players who join one by one and score until `leave`. */
export class SimulatedPlayers {
  #leaving = new AbortController();

  /** @param {string | URL} base of the service */
  constructor(base) {
    this.done = this.#come(base);
  }

  leave() {
    this.#leaving.abort();
  }

  /** @param {string | URL} base */
  async #come(base) {
    const { signal } = this.#leaving;
    /** @type {Promise<void>[]} */
    const playing = [];
    for (const name of NAMES) {
      if (signal.aborted) break;
      const session = new Session(base, localStorage, `leaderboard.player.${name}`);
      if (session.userId !== undefined || (await enter(session, name))) playing.push(play(session, signal));
      await pause(500, signal);
    }
    await Promise.all(playing);
  }
}

/**
 * Whether `name` could be signed up or in: another person may have the name, or the service may be away.
 *
 * @param {Session} session
 * @param {string} name
 */
async function enter(session, name) {
  try {
    await session.signUp(name, PASSWORD).catch((error) => {
      if (error instanceof Problem && error.code === "username_taken") return session.signIn(name, PASSWORD);
      throw error;
    });
    return true;
  } catch {
    return false;
  }
}

/**
 * Each player has their own pace and luck, so that they overtake each other.
 *
 * @param {Session} session
 * @param {AbortSignal} signal
 */
async function play(session, signal) {
  const pace = 500 + Math.random() * 2000;
  while (!signal.aborted) {
    const luck = Math.random() < 0.15 ? 10 : 1;
    await session.increment(luck * Math.ceil(Math.random() * 20)).catch(() => {});
    await pause(pace * (0.5 + Math.random()), signal);
  }
}

/**
 * @param {number} ms
 * @param {AbortSignal} signal
 * @returns {Promise<void>} resolves after `ms`, or when the signal aborts
 */
function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => resolve(clearTimeout(timer)), { once: true });
  });
}
