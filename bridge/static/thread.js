// What modules add to a correspondence: how long ago, the newest first, a reader's own letters in their place, and
// letters about a passage of the essay. Without this module all of it is there in another way: exact days, pages from
// the oldest on, the page of each letter, and a link behind each paragraph.

import { highlight, letThemChoose, passagesOf, stretchesOf } from "./passages.js";

const MINE = "emeritus mine ";
const ORDER = "emeritus order";
const parts = document.querySelector("[data-parts]")?.dataset;
const thread = document.querySelector("[data-thread]");
const mine = document.querySelector("[data-mine]:not([data-parts])");

if (thread !== null) {
  sayHowLongAgo(thread);
  if (parts !== undefined) {
    orderBy(parts);
    letThemChoose(parts);
    tie(parts);
    showMine(parts);
  }
  setInterval(() => {
    if (!document.hidden) sayHowLongAgo(document);
  }, 60_000);
}

// Times.

/** Say of each letter within *part* how long ago it was written; the exact time is behind it. */
function sayHowLongAgo(part) {
  const code = document.documentElement.lang || "en";
  const says = new Intl.RelativeTimeFormat(code, { numeric: "auto" });
  const exact = new Intl.DateTimeFormat(code, { dateStyle: "long", timeStyle: "short" });
  for (const time of part.querySelectorAll(".letter time[datetime]")) {
    if (time.dataset.day === undefined) {
      // By this it keeps the room that the day had, so that nothing beside or below it moves, and is printed as a day.
      time.dataset.day = time.textContent;
      time.title = exact.format(new Date(time.dateTime));
    }
    const said = ago(says, (Date.now() - Date.parse(time.dateTime)) / 1000);
    if (time.textContent !== said) time.textContent = said;
  }
}

function ago(says, seconds) {
  const units = [
    ["year", 365.25 * 86400],
    ["month", 30.44 * 86400],
    ["week", 7 * 86400],
    ["day", 86400],
    ["hour", 3600],
    ["minute", 60],
  ];
  for (const [unit, length] of units) {
    if (seconds >= length) return says.format(-Math.floor(seconds / length), unit);
  }
  return says.format(0, "second");
}

// Order.

/** Let a reader turn the letters of the page round, and keep it so for the pages that follow in this tab. */
function orderBy(says) {
  const shown = document.querySelector("[data-order]");
  const [next, prev] = ["next", "prev"].map((way) => document.querySelector(`.pager [rel="${way}"]`)?.closest(".pager"));
  if (shown === null || (thread.children.length < 2 && !next && !prev)) return;
  const places = [mine, next, prev].filter(Boolean).map((part) => [part, part.parentNode.insertBefore(document.createComment(""), part)]);
  const button = document.createElement("button");
  button.type = "button";
  button.className = "turn";
  let newest = remembered() === "newest";

  function turn() {
    const focused = document.activeElement;
    thread.append(...[...thread.children].reverse());
    if (newest) {
      if (next) thread.before(next);
      if (mine) thread.before(mine);
      if (prev) thread.after(prev);
    } else {
      for (const [part, place] of places) place.after(part);
    }
    // A part of the page that is moved loses the focus.
    if (focused !== document.activeElement) focused?.focus({ preventScroll: true });
  }

  function tell() {
    button.textContent = newest ? says.oldest : says.newest;
  }

  button.addEventListener("click", () => {
    newest = !newest;
    remember(newest ? "newest" : "oldest");
    tell();
    turn();
    // Those that were posted last, or first, are on another page.
    const elsewhere = newest ? says.last : prev && says.first;
    if (elsewhere) location.assign(elsewhere);
  });
  tell();
  shown.replaceWith(button);
  if (newest) {
    turn();
    if (location.hash.length > 1) document.getElementById(location.hash.slice(1))?.scrollIntoView();
  }
}

function remembered() {
  try {
    return sessionStorage.getItem(ORDER);
  } catch {
    return null;
  }
}

function remember(order) {
  try {
    sessionStorage.setItem(ORDER, order);
  } catch {
    // Then each page begins with the oldest.
  }
}

// Passages.

/** Tie letters to the passages that they are about, and what is counted beside a block to all that are quoted of it. */
function tie(says) {
  for (const link of document.querySelectorAll(".about-it")) {
    const show = () => highlight(stretchesOf(link.closest(".block"), link.dataset.quoted));
    for (const event of ["pointerenter", "focus"]) link.addEventListener(event, show);
    for (const event of ["pointerleave", "blur"]) link.addEventListener(event, () => highlight([]));
  }
  for (const quote of thread.querySelectorAll("blockquote.passage[data-block]")) {
    for (const event of ["pointerenter", "focusin", "click"]) quote.addEventListener(event, () => highlight(passagesOf(quote)));
    for (const event of ["pointerleave", "focusout"]) quote.addEventListener(event, () => highlight([]));
    // On a later page there is no essay to lead to; in a frame, `frame.js` sees to it.
    const link = quote.querySelector("a[href^='#']");
    if (link !== null && document.getElementById(`b${quote.dataset.block}`) === null && says.byKey === undefined) {
      link.href = says.essay + link.hash;
    }
  }
}

// A reader's own letters.

/** Put a reader's own letters that nobody else can see in their places. Whoever sent none asks for none. */
async function showMine(says) {
  const keys = keysOf(says.slug);
  if (mine === null || keys === null || (says.byKey !== undefined && keys.length === 0)) return;
  const page = await (says.byKey !== undefined ? ask("POST", says.mine, keys) : ask("GET", says.mine));
  if (page === null) return;
  const own = [...page.querySelectorAll("[data-own]")];
  for (const each of own) {
    // This page may be newer than the answer, and have it posted.
    if (document.getElementById(`letter-${each.dataset.own}`) !== null) continue;
    const answer = each.dataset.answers && document.getElementById(`answer-${each.dataset.answers}`);
    const exchange = answer ? [...thread.children].find((letter) => letter.contains(answer)) : undefined;
    (exchange ?? mine).append(document.adoptNode(each));
  }
  sayHowLongAgo(document);
  if (own.length === 0) forget(says.slug);
}

/** Return the keys that are kept for an essay; null if no letter was sent under it from here. */
function keysOf(slug) {
  try {
    const kept = JSON.parse(localStorage.getItem(MINE + slug) ?? "null");
    return Array.isArray(kept) ? kept : null;
  } catch {
    return null;
  }
}

function forget(slug) {
  try {
    localStorage.removeItem(MINE + slug);
  } catch {
    // Then it is asked again, and finds as little.
  }
}

/** Return what answers as a document; null if nothing does, or not as expected. */
function ask(method, address, keys) {
  return new Promise((resolve) => {
    // Not fetch: this makes a document of an answer without a sink that Trusted Types guard.
    const request = new XMLHttpRequest();
    request.open(method, address);
    request.responseType = "document";
    request.timeout = 10_000;
    request.addEventListener("loadend", () => resolve(request.status === 200 ? request.response : null));
    request.send(keys === undefined ? null : new URLSearchParams(keys.map((key) => ["key", key])));
  });
}
