// Renews what the page of a board says of it while its standings are built, and leaves the form to whoever fills it in.

const EVERY_MS = 1000;

/** What the page says by now; `null` if the server does not answer, or has something else to say. */
async function newest() {
  try {
    const answer = await fetch(location.href);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    return answer.ok ? page.getElementById("overview") : null;
  } catch {
    return null;
  }
}

for (;;) {
  const shown = document.getElementById("overview");
  if (!shown?.hasAttribute("data-is-building")) break;
  await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
  const next = await newest();
  if (next) shown.replaceWith(document.adoptNode(next));
}

export {}; // a module, for the sake of `await`
