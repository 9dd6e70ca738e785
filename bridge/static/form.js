// The form for a letter: counts its characters, shows how it would be posted, keeps a draft, and fetches the token that
// lets it be sent at once. Without this module the same form works and is answered by a page to read it over.

import { forgetOnTheirWay, keep, kept, sending, subjectOf, take, tokenFor } from "./drafts.js";

const TYPED_OUT = 400;
/** How far apart previews are asked for: the site gives so many a minute. */
const APART = 1500;
/** When a letter can be sent from each form without having been written too fast for a person. */
const soonest = new WeakMap();
/** How far the proof of work of each form is: "none" is wanted, "begun" or "over". */
const proofs = new WeakMap();
const form = document.querySelector("form:has(textarea[data-limit])");
if (form !== null) enhance(form);

function enhance(form) {
  const { body } = form.elements;
  let draft = null;
  let onItsWay = false;
  let sent = false;

  const remember = () => {
    if (draft !== null) keep(draft, lettersOf(form));
  };
  const drafts = async () => {
    draft = await take(subjectOf(form));
    if (body.defaultValue !== "" || body.value !== "") {
      // What this page says is what was written last; but what a browser put back by itself may be sent already.
      if (body.defaultValue !== "") remember();
    } else {
      const before = kept(draft);
      if (before !== null) fill(form, before);
    }
    changed();
  };
  const changed = () => {
    count(body);
    show();
    if (body.value !== "") fetchToken(form);
    form.querySelector("[data-kept]")?.toggleAttribute("hidden", draft === null || body.value.trim() === "");
  };
  const show = preview(form);

  count(body);
  sending(null);
  if (form.dataset.slug !== undefined) {
    if (form.dataset.anew !== undefined) forgetOnTheirWay();
    drafts();
  } else {
    show();
  }

  form.addEventListener("input", () => {
    // Other words than those that were sent are another letter, and need a token of their own.
    if (sent) {
      form.elements.token?.remove();
      form.elements.altcha?.remove();
      proofs.delete(form);
      form.querySelector("[data-send]")?.toggleAttribute("hidden", true);
    }
    sent = false;
    changed();
    remember();
  });

  form.querySelector("[data-unquote]")?.addEventListener("click", () => {
    quote(form, "", "");
    body.focus();
    remember();
  });

  form.addEventListener("submit", async (event) => {
    if (onItsWay) {
      event.preventDefault();
      return;
    }
    const { submitter } = event;
    const posts = submitter?.name !== "preview" && form.elements.token !== undefined;
    onItsWay = true;
    if (posts && (proofs.get(form) === "begun" || Date.now() < soonest.get(form))) {
      event.preventDefault();
      await Promise.all([proven(form), until(soonest.get(form) ?? 0)]);
      onItsWay = false;
      form.requestSubmit(submitter);
      return;
    }
    // A letter that was stopped on its way can be sent again; its token makes two of the same into one.
    setTimeout(() => {
      onItsWay = false;
    }, 3000);
    sent = posts;
    if (!posts) return;
    if (draft !== null) sending(draft);
    if (form.dataset.slug !== undefined) {
      const letter = { slug: form.dataset.slug, parent: form.elements.parent?.value, ...lettersOf(form) };
      form.elements.token.value = tokenFor(letter, form.elements.token.value);
    }
  });

  // Someone who comes back to this page as it was finds the words in it, and may send again.
  window.addEventListener("pageshow", async (event) => {
    if (!event.persisted) return;
    onItsWay = false;
    if (draft !== null) draft = await take(subjectOf(form));
  });
}

/** Return what is written in the form. */
function lettersOf(form) {
  const { body, author, email, no_reply_needed: quiet, passage, passage_block: block } = form.elements;
  return {
    body: body.value,
    author: author.value,
    email: email?.value ?? "",
    quiet: quiet?.checked ?? false,
    passage: passage?.value ?? "",
    block: block?.value ?? "",
  };
}

/** Put a draft into the form, where that says nothing yet. */
function fill(form, letter) {
  const { body, author, email, no_reply_needed: quiet, passage } = form.elements;
  body.value = letter.body;
  author.value ||= letter.author ?? "";
  if (email !== undefined) email.value ||= letter.email ?? "";
  if (quiet !== undefined) quiet.checked = letter.quiet ?? false;
  if (letter.passage && passage?.value === "") quote(form, letter.passage, letter.block);
}

/** Have the letter be about a passage of the essay, or with no words about the whole. */
function quote(form, words, block) {
  const shown = form.querySelector("[data-quoting]");
  if (shown === null) return;
  form.elements.passage.value = words;
  form.elements.passage_block.value = block;
  shown.querySelector("[data-quoted]").textContent = words;
  shown.hidden = words === "";
}

/** Show how many characters are left, as the site counts them: code points after normalising. */
function count(body) {
  const limit = Number(body.dataset.limit);
  const left = limit - [...body.value.normalize("NFC").trim()].length;
  const shown = body.form.querySelector("[data-count]");
  const said = body.form.querySelector("[data-said]");
  shown.dataset.first ??= shown.textContent;
  const digits = new Intl.NumberFormat(document.documentElement.lang || "en").format(Math.abs(left));
  const told = left < 0 ? shown.dataset.over : shown.dataset.left;
  shown.textContent = left === limit ? shown.dataset.first : told.replace("{n}", digits);
  // Said aloud only when it begins to matter, not at each letter.
  const matters = left < 0 ? "over" : left <= 100 ? "near" : "";
  if (said !== null && said.dataset.matters !== matters) {
    said.textContent = matters === "" ? "" : shown.textContent;
    said.dataset.matters = matters;
  }
  shown.classList.toggle("over", left < 0);
  if (left < 0) body.setAttribute("aria-invalid", "true");
  else if (body.value !== body.defaultValue) body.removeAttribute("aria-invalid");
}

/** Return what shows how the words would be posted: asked for when typing pauses, and never twice at once. */
function preview(form) {
  const shown = form.querySelector("[data-shown]");
  const { body } = form.elements;
  let waiting = null;
  let asking = false;
  let asked = null;
  let askedAt = 0;

  function ask() {
    waiting = null;
    askedAt = Date.now();
    const words = body.value;
    if (asking || words.trim() === "" || words === asked) return;
    asking = true;
    // Not fetch: this makes a document of an answer without a sink that Trusted Types guard.
    const request = new XMLHttpRequest();
    request.open("POST", shown.dataset.previewAt);
    request.responseType = "document";
    request.timeout = 10000;
    request.addEventListener("loadend", () => {
      asking = false;
      asked = words;
      const found = request.response?.getElementById("as-posted");
      if (found) shown.querySelector("[data-shown-here]").replaceChildren(...document.adoptNode(found).childNodes);
      shown.hidden = !found || body.value.trim() === "";
      // What was typed meanwhile; after a refusal to answer, only once more is typed.
      if (found && body.value !== words) wait();
    });
    request.send(new URLSearchParams({ body: words }));
  }

  function wait() {
    if (waiting !== null) clearTimeout(waiting);
    waiting = setTimeout(ask, Math.max(TYPED_OUT, askedAt + APART - Date.now()));
  }

  return () => {
    if (shown === null) return;
    if (body.value.trim() === "") {
      shown.hidden = true;
      asked = null;
    } else wait();
  };
}

/** Fetch the form's token, once; until it is there, and if it never comes, the letter is read over before it is sent. */
async function fetchToken(form) {
  if (form.dataset.token === undefined || form.dataset.fetching) return;
  if (form.elements.token !== undefined && proofs.has(form)) return;
  form.dataset.fetching = "yes";
  try {
    const response = await fetch(form.dataset.token, { headers: { Accept: "application/json" } });
    if (!response.ok) return;
    const { token, challenge, least_seconds: least } = await response.json();
    if (form.elements.token === undefined) {
      add(form, "token", token);
      soonest.set(form, Date.now() + 1000 * least);
    }
    form.querySelector("[data-send]")?.removeAttribute("hidden");
    const over = form.querySelector("[data-preview]");
    if (over !== null) over.textContent = over.dataset.then;
    prove(form, challenge);
  } catch {
    // Without a network there is no token, and the form still works when there is one again.
  } finally {
    delete form.dataset.fetching;
  }
}

/** Solve what came with the token, while its author types. Without it the letter is taken too, though more seldom. */
async function prove(form, challenge) {
  if (!challenge || proofs.has(form)) {
    if (!proofs.has(form)) proofs.set(form, "none");
    return;
  }
  proofs.set(form, "begun");
  try {
    const { solve } = await import("./proof.js");
    add(form, "altcha", await solve(challenge));
  } catch {
    // As if there were no module for it.
  } finally {
    proofs.set(form, "over");
    form.dispatchEvent(new Event("proven"));
  }
}

/** Wait for the proof, if one was begun, but not for long. */
function proven(form) {
  if (proofs.get(form) !== "begun") return Promise.resolve();
  return new Promise((resolve) => {
    form.addEventListener("proven", resolve, { once: true });
    setTimeout(() => {
      proofs.set(form, "over");
      resolve();
    }, 5000);
  });
}

function until(moment) {
  return new Promise((resolve) => {
    setTimeout(resolve, moment - Date.now());
  });
}

function add(form, name, value) {
  const field = document.createElement("input");
  field.type = "hidden";
  field.name = name;
  field.value = value;
  form.append(field);
}
