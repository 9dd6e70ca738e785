// The desk's cards: fetched as whole pages and put in the place of the one that was read, without loading a page.

/** Fetch a page of the desk as a document. Rejects if nothing answers; null if what answers is no page of the desk. */
export function fetchPage(address) {
  return new Promise((resolve, reject) => {
    // Not fetch: this makes a document of an answer without a sink that Trusted Types guard.
    const request = new XMLHttpRequest();
    request.open("GET", address);
    request.responseType = "document";
    request.addEventListener("load", () => {
      const page = request.response;
      resolve(page?.querySelector("main[data-address]") ? page : null);
    });
    request.addEventListener("error", () => reject(new Error("The desk cannot be reached.")));
    request.send();
  });
}

/** Put a fetched page in the place of this one: its main part, its tabs and its title. Nothing above it moves. */
export function show(page) {
  for (const id of ["tabs", "main"]) {
    const fresh = page.getElementById(id);
    const old = document.getElementById(id);
    if (fresh !== null && old !== null) old.replaceWith(document.adoptNode(fresh));
  }
  document.title = page.title;
  const main = document.getElementById("main");
  history.replaceState(null, "", main.dataset.address);
  window.scrollTo(0, 0);
  document.getElementById("reading").focus({ preventScroll: true });
  return main;
}

/** Put the list of a fetched page in the place of the one that is shown, and leave what is being read where it is. */
export function showList(page) {
  const fresh = page.getElementById("waiting");
  const old = document.getElementById("waiting");
  const focused = old?.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  const opened = document.getElementById("main").dataset.open;
  if (fresh === null) {
    old?.remove();
    return;
  }
  const adopted = document.adoptNode(fresh);
  for (const link of adopted.querySelectorAll("[aria-current]")) link.removeAttribute("aria-current");
  adopted.querySelector(`li[data-id="${CSS.escape(opened)}"] a`)?.setAttribute("aria-current", "true");
  if (old !== null) {
    adopted.scrollTop = old.scrollTop;
    old.replaceWith(adopted);
  } else {
    document.getElementById("main").append(adopted);
  }
  if (focused !== null) adopted.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

/** Return the submissions in a page's list, in order, each with its address. */
export function listed(page) {
  return [...page.querySelectorAll("#waiting li[data-id]")].map((each) => ({
    id: each.dataset.id,
    marks: each.dataset.marks,
    address: each.querySelector("a").getAttribute("href"),
  }));
}
