import { LeaderboardClient } from "./client.js";

const rows = document.querySelector("tbody");
const state = document.querySelector("output");

const client = new LeaderboardClient(location.origin.replace(/^http/, "ws") + "/ws/leaderboard/");
client.addEventListener("state", ({ detail }) => {
  state.value = detail === "live" ? "Live" : "Reconnecting: this may be out of date";
  state.dataset.state = detail;
});
client.addEventListener("update", ({ detail }) => rows.replaceChildren(...lines(detail.leaderboard)));

function lines(entries) {
  if (entries.length === 0) return [line(["", "Nobody has scored yet.", ""])];
  let rank = 1;
  return entries.map(({ userId, score }, index) => {
    if (index > 0 && score < entries[index - 1].score) rank = index + 1;
    return line([rank, userId, score.toLocaleString("en")]);
  });
}

function line(texts) {
  const row = document.createElement("tr");
  for (const text of texts) {
    // As text, and each in a direction of its own: a user id may hold markup, or marks that turn its neighbours around.
    const cell = row.insertCell();
    cell.dir = "auto";
    cell.textContent = text;
  }
  return row;
}
