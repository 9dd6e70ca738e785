// The page that an author is shown when their letter has arrived: its draft is no longer needed. What is remembered in
// this browser is that there are letters of theirs under an essay, and in a frame, which has no cookie, their keys.

import { forgetOnTheirWay, forgetSent, sending } from "./drafts.js";

const MINE = "emeritus mine ";
const MOST = 20;

// Whoever opens the page of an older letter by its link has sent nothing: a receipt is what a form was redirected to.
if (performance.getEntriesByType("navigation")[0]?.redirectCount > 0) forgetSent();
else sending(null);
const page = document.querySelector("[data-sent]");
if (page !== null) remember(page.dataset.sent, page.dataset.key);
if (document.querySelector("[data-withdrawn]") !== null) forgetOnTheirWay();

/** Remember that a letter was sent under the essay *slug*: with its *key* in a frame, else only that there is one. */
function remember(slug, key) {
  try {
    const known = JSON.parse(localStorage.getItem(MINE + slug) ?? "[]").filter((each) => each !== key);
    const keys = key === undefined ? known : [...known, key].slice(-MOST);
    localStorage.setItem(MINE + slug, JSON.stringify(keys));
  } catch {
    // Where storage is refused, the author's page is found by its address alone.
  }
}
