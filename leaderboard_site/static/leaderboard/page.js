/** The page at `/`: the live board, tabs if there are others, the account of the player, and in local runs a play area. */

import { LiveLeaderboard } from "./live-leaderboard.js";
import { part } from "./parts.js";
import { Problem, Session } from "./session.js";

const STANDING_EVERY_MS = 2_000;
const STANDING_LOOK_MS = 15_000; // changes below the top 10 cause no frame
const PLAY_MS = 60_000;
const BOARDS_AGAIN_MS = 10_000;

const board = part(document, "live-leaderboard", LiveLeaderboard);
const play = document.querySelector(".play");
const dialog = document.querySelector("dialog");
const service = new URL(".", location.href); // it may be below a path
const session = new Session(service, sessionStorage);

board.addEventListener("update", (event) => {
  const { detail } = /** @type {CustomEvent<import("./client.js").Update>} */ (event);
  const footer = document.querySelector("footer");
  if (footer) footer.textContent = `After event ${detail.seq.toLocaleString("en")}.`;
});
if (dialog) {
  offerBoards();
  const askToSignUp = account(dialog);
  standing();
  if (play) playArea(play, askToSignUp);
}

// The boards

/** Asks which boards there are, until it knows. What shows them is loaded only if there are any beside the default one. */
async function offerBoards() {
  try {
    const answer = await fetch(new URL("api/v1/boards", service), { credentials: "omit" });
    const { boards } = await answer.json(); // an error has none
    if (boards.length < 2) return;
    const { offer } = await import("./boards.js");
    offer(boards, board, service);
  } catch {
    // The state above the table says that the service is away; the default board needs no tab meanwhile.
    setTimeout(offerBoards, BOARDS_AGAIN_MS);
  }
}

// The account

/**
 * Returns a function that opens the dialog to sign up, and calls its argument once the player is signed in.
 *
 * @param {HTMLDialogElement} dialog
 * @returns {(afterwards: () => void) => void}
 */
function account(dialog) {
  const out = part(document, ".account > span:first-child", HTMLElement);
  const into = part(document, ".account > span:last-child", HTMLElement);
  const form = part(dialog, "form", HTMLFormElement);
  const username = part(form, "[name=username]", HTMLInputElement);
  const password = part(form, "[name=password]", HTMLInputElement);
  const button = part(form, ".primary", HTMLButtonElement);
  const mistake = part(form, "[role=alert]", HTMLElement);
  let signUp = false;
  let then = () => {};

  /**
   * @param {boolean} asNew
   * @param {() => void} [afterwards]
   */
  const open = (asNew, afterwards = () => {}) => {
    signUp = asNew && form.dataset.registration === "open";
    then = afterwards;
    part(form, "h2", HTMLElement).textContent = button.textContent = signUp ? "Sign up" : "Sign in";
    password.autocomplete = signUp ? "new-password" : "current-password";
    part(form, ".hint", HTMLElement).hidden = !signUp;
    mistake.textContent = "";
    if (!dialog.open) dialog.showModal();
    username.focus();
  };
  part(out, ".sign-in", HTMLElement).addEventListener("click", () => open(false));
  out.querySelector(".sign-up")?.addEventListener("click", () => open(true));
  part(into, ".sign-out", HTMLElement).addEventListener("click", () => session.signOut());
  part(form, ".cancel", HTMLElement).addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => (password.value = ""));

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    mistake.textContent = "";
    try {
      await (signUp ? session.signUp(username.value, password.value) : session.signIn(username.value, password.value));
      dialog.close();
      then();
    } catch (error) {
      mistake.textContent = explain(error);
    } finally {
      button.disabled = false;
    }
  });

  const show = () => {
    out.hidden = session.userId !== undefined;
    into.hidden = session.userId === undefined;
    const name = part(into, "bdi", HTMLElement);
    name.textContent = name.title = session.userId ?? "";
    if (session.userId === undefined) board.removeAttribute("me");
    else board.setAttribute("me", session.userId);
  };
  session.addEventListener("change", show);
  show();
  return (afterwards) => open(true, afterwards);
}

/** @param {unknown} error */
function explain(error) {
  if (!(error instanceof Problem)) return "The service cannot be reached. Please try again.";
  if (error.code === "no_active_account") return "Wrong name or password.";
  return Object.values(error.errors).flat().join(" ") || error.message;
}

/** Keeps the row under the table current: asks after each frame and every 15 s, and only while the row is needed. */
function standing() {
  let asking = false;
  let askedAt = -Infinity;
  const ask = async () => {
    const me = session.userId;
    const there = board.client?.newest?.leaderboard.some(({ userId }) => userId === me);
    const name = board.getAttribute("board");
    if (me === undefined || (name === null && session.isNew) || there) return;
    if (asking || board.past || document.hidden) return;
    asking = true;
    await new Promise((resolve) => setTimeout(resolve, askedAt + STANDING_EVERY_MS - performance.now()));
    askedAt = performance.now();
    try {
      const found = await session.standing(name);
      if (session.userId === me && board.getAttribute("board") === name) board.standing = found;
    } catch {
      // The state above the table says that the service is away; the row is as old as the table.
    } finally {
      asking = false;
    }
  };
  session.addEventListener("change", ask);
  session.addEventListener("score", ask);
  board.addEventListener("update", ask);
  setInterval(ask, STANDING_LOOK_MS);
  ask();
}

// The play area

/**
 * @param {Element} play
 * @param {(afterwards: () => void) => void} askToSignUp
 */
function playArea(play, askToSignUp) {
  play.classList.remove("waiting");
  const said = part(play, "output", HTMLOutputElement);
  /** @param {number} points */
  const score = async (points) => {
    said.value = `+${points} …`;
    try {
      const total = await session.increment(points);
      said.value = `+${points}: your score is ${total.toLocaleString("en")}`;
      session.dispatchEvent(new Event("score"));
    } catch (error) {
      said.value = explain(error);
    }
  };
  for (const button of play.querySelectorAll("button")) {
    const points = Number(button.value);
    button.addEventListener("click", () => {
      if (session.userId !== undefined) score(points);
      else askToSignUp(() => score(points));
    });
  }

  const toggle = part(play, "[role=switch]", HTMLInputElement);
  const hint = part(play, ".hint", HTMLElement);
  const usual = hint.textContent;
  /** @type {import("./play.js").SimulatedPlayers | undefined} */
  let players;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let leaving;
  const leave = () => {
    clearTimeout(leaving);
    players?.leave();
    toggle.checked = false;
    hint.textContent = usual;
  };
  toggle.addEventListener("change", async () => {
    if (!toggle.checked) return leave();
    const { SimulatedPlayers } = await import("./play.js");
    if (!toggle.checked) return; // switched off while it was loading
    players?.leave();
    players = new SimulatedPlayers(service);
    leaving = setTimeout(leave, PLAY_MS);
    hint.textContent = "They join one by one and leave after a minute.";
  });
}
