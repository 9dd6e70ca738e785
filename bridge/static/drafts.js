// Letters that were begun and not sent, kept in this browser only. Where storage is refused, nothing is kept.

const PREFIX = "emeritus letter ";

function storage() {
  try {
    return window.localStorage;
  } catch {
    return null;
  }
}

/** Name the draft of *form*: one for each essay, and one for each answer that is written back to. */
export function nameOf(form) {
  return `${PREFIX}${form.dataset.slug} ${form.elements.parent?.value ?? ""}`;
}

/** Return what was kept under *name*, or null. */
export function kept(name) {
  try {
    return JSON.parse(storage()?.getItem(name) ?? "null");
  } catch {
    return null;
  }
}

/** Keep *letter* under *name*; a letter without words is forgotten. */
export function keep(name, letter) {
  try {
    if (letter.body.trim() === "") storage()?.removeItem(name);
    else storage()?.setItem(name, JSON.stringify(letter));
  } catch {
    // A full storage costs the draft, never the letter.
  }
}

/** Forget the letters that were on their way: the page that calls this is what their sender is shown on arrival. */
export function forgetSent() {
  const all = storage();
  if (all === null) return;
  for (const name of Object.keys(all)) {
    if (name.startsWith(PREFIX) && kept(name)?.sending) all.removeItem(name);
  }
}
