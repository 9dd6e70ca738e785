// The form for a letter: counts its characters, keeps a draft, and fetches the token that lets it be sent at once.
// Without this module the same form works and is answered by a page to read it over.

import { keep, kept, nameOf } from "./drafts.js";

const form = document.querySelector("form:has(textarea[data-limit])");
if (form !== null) enhance(form);

function enhance(form) {
  const { body, author } = form.elements;
  const draft = form.dataset.slug === undefined ? null : nameOf(form);
  let sending = false;
  let sent = false;

  function remember(more = {}) {
    if (draft !== null) keep(draft, { body: body.value, author: author.value, ...more });
  }

  if (draft !== null && body.value === "") {
    const before = kept(draft);
    if (before !== null) {
      body.value = before.body;
      author.value ||= before.author;
    }
  }
  count(body);
  if (body.value !== "") fetchToken(form);
  const note = form.querySelector("[data-kept]");
  if (note !== null) note.hidden = false;

  form.addEventListener("input", () => {
    // Other words than those that were sent are another letter, and need a token of their own.
    if (sent) {
      form.elements.token?.remove();
      form.querySelector("[data-send]")?.toggleAttribute("hidden", true);
    }
    sent = false;
    fetchToken(form);
    count(body);
    remember();
  });

  form.addEventListener("submit", (event) => {
    if (sending) {
      event.preventDefault();
      return;
    }
    sending = true;
    // A letter that was stopped on its way can be sent again; its token makes two of the same into one.
    setTimeout(() => {
      sending = false;
    }, 3000);
    const posts = event.submitter?.name !== "preview" && form.elements.token !== undefined;
    sent = posts;
    if (posts) remember({ sending: true });
  });

  // Someone who comes back to this page as it was finds the words in it, and may send again.
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) sending = false;
  });
}

/** Show how many characters there are, as the site counts them: code points after normalising. */
function count(body) {
  const limit = Number(body.dataset.limit);
  const length = [...body.value.normalize("NFC").trim()].length;
  const shown = document.querySelector("[data-count]");
  const plural = (number) => `${number.toLocaleString("en")} ${number === 1 ? "character" : "characters"}`;
  if (length === 0) shown.textContent = `At most ${plural(limit)}.`;
  else if (length <= limit) shown.textContent = `${length.toLocaleString("en")} of ${plural(limit)}.`;
  else shown.textContent = `${plural(length - limit)} too many.`;
  shown.classList.toggle("over", length > limit);
  if (length > limit) body.setAttribute("aria-invalid", "true");
  else body.removeAttribute("aria-invalid");
}

/** Fetch the form's token, once; until it is there, and if it never comes, the letter is read over before it is sent. */
async function fetchToken(form) {
  if (form.dataset.token === undefined || form.elements.token !== undefined || form.dataset.fetching) return;
  form.dataset.fetching = "yes";
  try {
    const response = await fetch(form.dataset.token, { headers: { Accept: "application/json" } });
    if (!response.ok) return;
    const { token } = await response.json();
    const field = document.createElement("input");
    field.type = "hidden";
    field.name = "token";
    field.value = token;
    form.append(field);
    form.querySelector("[data-send]").hidden = false;
    form.querySelector("[data-preview]").textContent = "Read it over";
  } catch {
    // Without a network there is no token, and the form still works when there is one again.
  } finally {
    delete form.dataset.fetching;
  }
}
