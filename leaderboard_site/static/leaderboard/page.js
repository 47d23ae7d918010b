/** The page at `/`: the element, who plays, and in local runs something to play with. */

import "./live-leaderboard.js";
import { Problem, Session } from "./session.js";

const STANDING_EVERY_MS = 2_000;
const STANDING_LOOK_MS = 15_000; // what others do below the top 10 makes no frame
const PLAY_MS = 60_000;

const board = document.querySelector("live-leaderboard");
const play = document.querySelector(".play");
const dialog = document.querySelector("dialog");
const session = new Session(location.origin, sessionStorage);

board.addEventListener("update", ({ detail }) => {
  const footer = document.querySelector("footer");
  if (footer) footer.textContent = `After event ${detail.seq.toLocaleString("en")}.`;
});
if (dialog) {
  const askToSignUp = account();
  standing();
  if (play) playArea(askToSignUp);
}

// Who plays

/** Answers with what opens the dialog for a newcomer, and goes on with its argument when they are in. */
function account() {
  const [out, into] = document.querySelectorAll(".account > span");
  const [form] = dialog.children;
  const mistake = dialog.querySelector("[role=alert]");
  let signUp = false;
  let then = () => {};

  const open = (asNew, afterwards = () => {}) => {
    signUp = asNew && form.dataset.registration === "open";
    then = afterwards;
    dialog.querySelector("h2").textContent = dialog.querySelector(".primary").textContent = signUp ? "Sign up" : "Sign in";
    form.password.autocomplete = signUp ? "new-password" : "current-password";
    dialog.querySelector(".hint").hidden = !signUp;
    mistake.textContent = "";
    if (!dialog.open) dialog.showModal();
    form.username.focus();
  };
  document.querySelector(".sign-in").addEventListener("click", () => open(false));
  document.querySelector(".sign-up")?.addEventListener("click", () => open(true));
  document.querySelector(".sign-out").addEventListener("click", () => session.signOut());
  dialog.querySelector(".cancel").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => (form.password.value = ""));

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector(".primary");
    button.disabled = true;
    mistake.textContent = "";
    try {
      const { username, password } = form;
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
    const name = into.querySelector("bdi");
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
  if (error.code === "no_active_account") return "There is no such name with this password.";
  return Object.values(error.errors).flat().join(" ") || error.message;
}

/** Keeps the row under the table true: asks after each frame and now and then, and only while the row is needed. */
function standing() {
  let asking = false;
  let askedAt = -Infinity;
  const ask = async () => {
    const me = session.userId;
    const there = board.client?.newest?.leaderboard.some(({ userId }) => userId === me);
    if (me === undefined || session.isNew || there || asking || document.hidden) return;
    asking = true;
    await new Promise((resolve) => setTimeout(resolve, askedAt + STANDING_EVERY_MS - performance.now()));
    askedAt = performance.now();
    try {
      const found = await session.standing();
      if (session.userId === me) board.standing = found;
    } catch {
      // The state above the table says that the service is away; the row is from the same time as the table.
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

function playArea(askToSignUp) {
  play.classList.remove("waiting");
  const said = play.querySelector("output");
  const score = async (points) => {
    said.value = `+${points} …`;
    try {
      const total = await session.increment(points);
      said.value = `+${points}, that makes ${total.toLocaleString("en")}`;
      session.dispatchEvent(new Event("score"));
    } catch (error) {
      said.value = explain(error);
    }
  };
  for (const button of play.querySelectorAll(".points")) {
    const points = Number(button.value);
    button.addEventListener("click", () => {
      if (session.userId !== undefined) score(points);
      else askToSignUp(() => score(points));
    });
  }

  const toggle = play.querySelector("[role=switch]");
  const hint = play.querySelector(".hint");
  const usual = hint.textContent;
  let players;
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
    if (!toggle.checked) return; // changed their mind while it was loading
    players?.leave();
    players = new SimulatedPlayers(location.origin);
    leaving = setTimeout(leave, PLAY_MS);
    hint.textContent = "They come one by one, and leave after a minute.";
  });
}
