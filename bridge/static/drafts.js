// Letters that were begun and not sent, kept in this browser only. Where storage is refused, nothing is kept.
// Each tab has a draft of its own, so that two of them do not write over each other; a tab that opens takes up what a
// closed one left. Which drafts are in use, the browser's own locks tell.

const PREFIX = "emeritus letter ";
const SENT = "emeritus sent";
const ON_THEIR_WAY = "emeritus on their way";
const KEPT_FOR = 30 * 86400e3;
const SAME_FOR = 3600e3;

/** Name what *form* is about: the essay, and the answer that is written back to. */
export function subjectOf(form) {
  return `${PREFIX}${form.dataset.slug} ${form.elements.parent?.value ?? ""} `;
}

/** Take the draft about *subject* that is this tab's, one that no other tab uses, or a new one; return its name. */
export async function take(subject) {
  const own = read(tab(), subject);
  if (own !== null && ((await lock(own)) || (await soon(() => lock(own))))) return own;
  for (const name of left(subject)) {
    if (await lock(name)) return mine(subject, name);
  }
  const name = subject + crypto.getRandomValues(new Uint32Array(2)).join("");
  await lock(name);
  return mine(subject, name);
}

/** Return what was kept under *name*, or null. */
export function kept(name) {
  return parsed(browser(), name);
}

/** Keep *letter* under *name*; a letter without words is forgotten. */
export function keep(name, letter) {
  if (letter.body.trim() === "") write(browser(), name, null);
  else write(browser(), name, JSON.stringify({ ...letter, at: Date.now() }));
}

/** Note that the draft *name* is being sent, or with null that none is: the page that is shown was not its receipt. */
export function sending(name) {
  write(tab(), SENT, name);
}

/** Forget the draft that this tab sent: the page that calls this is what its sender is shown on arrival. */
export function forgetSent() {
  const name = read(tab(), SENT);
  if (name === null) return;
  write(browser(), name, null);
  write(tab(), SENT, null);
}

/** Return the token for a letter: *own*, unless another tab has just sent the same words with another one. */
export function tokenFor(letter, own) {
  const words = digest(JSON.stringify(letter));
  const recent = (parsed(browser(), ON_THEIR_WAY) ?? []).filter((each) => Date.now() - each.at < SAME_FOR);
  const same = recent.find((each) => each.words === words);
  if (same !== undefined) return same.token;
  write(browser(), ON_THEIR_WAY, JSON.stringify([...recent, { words, token: own, at: Date.now() }].slice(-20)));
  return own;
}

/** Forget what was sent lately: words that were changed or taken back may be sent again, as another letter. */
export function forgetOnTheirWay() {
  write(browser(), ON_THEIR_WAY, null);
}

function left(subject) {
  const found = [];
  for (const name of Object.keys(browser() ?? {})) {
    if (!name.startsWith(PREFIX)) continue;
    const letter = kept(name);
    if (letter === null || !(Date.now() - letter.at < KEPT_FOR)) write(browser(), name, null);
    else if (name.startsWith(subject)) found.push([letter.at, name]);
  }
  return found.sort((one, other) => other[0] - one[0]).map(([, name]) => name);
}

function mine(subject, name) {
  write(tab(), subject, name);
  return name;
}

/** Hold *name* as long as this page is open; false if another one holds it. Without locks, nobody else is known. */
function lock(name) {
  if (navigator.locks === undefined) return Promise.resolve(true);
  return new Promise((resolve) => {
    navigator.locks
      .request(name, { ifAvailable: true }, (granted) => {
        resolve(granted !== null);
        // A page that is kept for the back button must hold nothing, or it is not kept.
        return granted && new Promise((release) => window.addEventListener("pagehide", release, { once: true }));
      })
      .catch(() => resolve(true));
  });
}

/** Try again in a moment: a page that is being left, as on a reload, may still hold its lock. */
function soon(attempt) {
  return new Promise((resolve) => {
    setTimeout(() => resolve(attempt()), 150);
  });
}

function browser() {
  try {
    return window.localStorage;
  } catch {
    return null;
  }
}

function tab() {
  try {
    return window.sessionStorage;
  } catch {
    return null;
  }
}

function read(storage, name) {
  return storage?.getItem(name) ?? null;
}

function parsed(storage, name) {
  try {
    return JSON.parse(read(storage, name) ?? "null");
  } catch {
    return null;
  }
}

function write(storage, name, value) {
  try {
    if (value === null) storage?.removeItem(name);
    else storage?.setItem(name, value);
  } catch {
    // A full storage costs the draft, never the letter.
  }
}

/** Tell different words apart without keeping them: 53 bits are plenty among twenty. */
function digest(text) {
  let [high, low] = [0xdeadbeef, 0x41c6ce57];
  for (let i = 0; i < text.length; i += 1) {
    high = Math.imul(high ^ text.charCodeAt(i), 2654435761);
    low = Math.imul(low ^ text.charCodeAt(i), 1597334677);
  }
  return `${high >>> 0} ${low >>> 0}`;
}
