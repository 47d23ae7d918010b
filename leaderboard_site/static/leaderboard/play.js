/** Simulated players, who use the API as real ones do: so that there is something to see on a new board. */

import { Problem, Session } from "./session.js";

const NAMES = ["Amara", "Ines", "Kofi", "Leila", "Linnea", "Mateo", "Mina", "Oskar", "Ravi", "Tomasz", "Yuki", "Zoë"];
const PASSWORD = "nobody is at the keyboard"; // no secret: whoever can open this page may play them

/** Twelve players who come one by one and score until `leave`. */
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
 * Whether `name` could be signed up, or in: somebody else may have it, or the service be away.
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
 * Each at a pace and with a luck of their own, so that they overtake each other.
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
 * @returns {Promise<void>} when the time is over, or the signal comes
 */
function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => resolve(clearTimeout(timer)), { once: true });
  });
}
