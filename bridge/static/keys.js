// Single keys: heard once for each press, never with a modifier and never in a field, and only if they are on.

/** Call what *heard* has for each key that is pressed alone; it returns true for a key that it used. */
export function listen(heard, isOn) {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.isComposing || event.repeat || !isOn()) return;
    if (event.ctrlKey || event.metaKey || event.altKey || isWriting(event.target)) return;
    if (document.querySelector("dialog[open]") !== null) return;
    if (heard(event.key)) event.preventDefault();
  });
}

/** Let the dialog of keys be opened, and its switch be used without leaving the page. Returns what opens it. */
export function help(isOn, turn) {
  const dialog = document.getElementById("keys");
  const form = dialog.querySelector("[data-shortcuts-form]");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const on = form.elements.heard.value === "yes";
    const sent = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) }).catch(() => null);
    if (sent === null || !sent.ok) {
      form.submit();
      return;
    }
    turn(on);
    word();
  });
  function word() {
    form.elements.heard.value = isOn() ? "no" : "yes";
    form.querySelector("button").textContent = isOn() ? "Turn these keys off" : "Turn these keys on";
  }
  return () => {
    word();
    dialog.showModal();
  };
}

function isWriting(target) {
  if (!(target instanceof HTMLElement)) return false;
  if (target.isContentEditable || target.matches("textarea, select")) return true;
  return target.matches("input") && !["radio", "checkbox", "button", "submit"].includes(target.type);
}
