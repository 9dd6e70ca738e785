// Inside a frame on somebody else's page: tells that page how high this one is, follows its light or dark, and keeps
// what belongs to the frame in it. Messages are `{ emeritus: { v: 1, ... } }` and carry numbers only.

const VERSION = 1;
const root = document.documentElement;
const outside = window.parent;

/** Whom messages are for. A message that this window's parent sent says it too, so "*" is never needed. */
let reader = firstKnown();

if (outside !== window) begin();

function begin() {
  window.addEventListener("message", hear);
  new ResizeObserver(tellHeight).observe(root);
  document.addEventListener("click", prepare);
  window.addEventListener("hashchange", showTarget);
  showTarget();
  // Browsers do not let a frame of another site begin with `autofocus`.
  document.querySelector("[role='alert'][tabindex]")?.focus();
}

function firstKnown() {
  // Firefox has no `ancestorOrigins`; after a step within the frame the referrer is this site, and a message tells.
  const told = location.ancestorOrigins?.[0] ?? (URL.canParse(document.referrer) ? new URL(document.referrer).origin : "");
  return told === "" || told === "null" || told === location.origin ? null : told;
}

function tell(numbers) {
  if (reader !== null) outside.postMessage({ emeritus: { v: VERSION, ...numbers } }, reader);
}

function tellHeight() {
  tell({ height: Math.ceil(root.getBoundingClientRect().height) });
}

/** Take up what the page around says: `dark`, 1 or 0. It is answered with the height. */
function hear(event) {
  if (event.source !== outside || event.origin === "null" || (reader !== null && event.origin !== reader)) return;
  const said = event.data?.emeritus;
  if (said?.v !== VERSION) return;
  const first = reader === null;
  reader = event.origin;
  if (said.dark === 0 || said.dark === 1) {
    const theme = said.dark === 1 ? "dark" : "light";
    root.dataset.theme = theme;
    window.name = `emeritus-${theme}`; // For the frame's next page.
  }
  tellHeight();
  if (first) showTarget();
}

/** Have the page around scroll to what the address names: this window itself has nothing to scroll. */
function showTarget() {
  const target = location.hash.length > 1 ? document.getElementById(location.hash.slice(1)) : null;
  if (target === null) return;
  tellHeight();
  tell({ top: Math.max(0, Math.floor(target.getBoundingClientRect().top + window.scrollY)) });
}

/** Before a link is followed, let it stay in the frame if what it leads to is here. */
function prepare(event) {
  const link = event.target.closest?.("a[href]");
  if (!link) return;
  const to = new URL(link.href);
  if (link.dataset.answering !== undefined && to.pathname.endsWith("/write")) {
    if (!to.pathname.endsWith("/embed/write")) to.pathname = to.pathname.replace(/write$/, "embed/write");
    link.href = to.href;
    link.target = "_self";
  } else if (link.getAttribute("href").startsWith("#")) {
    if (document.getElementById(to.hash.slice(1)) !== null) {
      link.target = "_self";
      // The same address again is no change of it, and is to be shown all the same.
      if (to.hash === location.hash) showTarget();
    } else {
      // A passage of the essay, which is not in the frame.
      link.href = to.pathname.replace(/\/embed$/, "") + to.hash;
    }
  }
}
