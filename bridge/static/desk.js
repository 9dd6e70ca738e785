// The desk by hand: keys, verdicts that can be taken back, and the next card without loading a page. Without this module
// the same forms and links work, a page at a time.

import { fetchPage, listed, show, showList } from "./cards.js";
import { help, listen } from "./keys.js";
import { claim, letGo, showClaim, watcher } from "./reading.js";
import { verdictsOf } from "./verdicts.js";

const TOO_SOON = "A moment: this one has just appeared.";
let main = document.getElementById("main");
const said = made("p", "unseen");
said.id = "said";
said.setAttribute("role", "status");
document.body.append(said);
const drafts = new Map();
const trail = [];
const decidedElsewhere = new Set();
let card = null;
let busy = false;
let ahead = null;
let beat = null;
let signedOut = false;
let watching = false;
let looked = Date.now();
let undoNext = false;
let quiet = null;
let settles = null;

const seconds = (name) => Number(main.dataset[name]);
const heardKeys = () => main.dataset.shortcuts === "on";
const verdicts = verdictsOf(main.dataset.me, onVerdict);
const look = watcher();
const glance = watcher();
const openHelp = help(heardKeys, (on) => {
  main.dataset.shortcuts = on ? "on" : "off";
});

// What is on the screen

/** Begin with the card that stands in the page now. */
function begin() {
  main = document.getElementById("main");
  card = { id: main.dataset.open, shownAt: Date.now(), endSeen: false, over: main.dataset.open === "" };
  main.querySelector("[data-help]").hidden = false;
  hideJudged();
  showStrips();
  if (card.over) return;
  watchForTheEnd(card);
  read();
  if (main.querySelector("[data-key=s]") !== null) prefetch();
}

function watchForTheEnd(of) {
  const end = main.querySelector("[data-end]");
  const foot = main.querySelector(".foot");
  // What the bar covers was not on the screen.
  const margin = `0px 0px -${Math.ceil(foot.getBoundingClientRect().height)}px 0px`;
  new IntersectionObserver(
    (seen, observer) => {
      if (!seen.some((each) => each.isIntersecting)) return;
      of.endSeen = true;
      if (of === card) main.dataset.seen = "yes"; // The key on the button is no longer pale.
      observer.disconnect();
    },
    { rootMargin: margin },
  ).observe(end);
}

function prefetch() {
  const address = main.dataset.next;
  ahead = { address, at: Date.now(), page: fetchPage(address).catch(() => null) };
}

async function pageAt(address) {
  const fresh = ahead !== null && ahead.address === address && Date.now() - ahead.at < 60_000;
  const page = fresh ? await ahead.page : null;
  if (page !== null && !decidedElsewhere.has(page.getElementById("main").dataset.open)) return page;
  return fetchPage(address);
}

/** Show the card at *address*, or the next one that this moderator has not judged already. */
async function go(address, { back = false, restore = null, exactly = false } = {}) {
  if (busy) return;
  busy = true;
  const from = card.id;
  try {
    let page = await pageAt(address);
    const tried = new Set([address]);
    while (page !== null && !exactly && isJudged(page)) {
      const other = unjudged(page, tried);
      if (other === null) break;
      tried.add(other);
      page = await fetchPage(other);
    }
    if (page === null) {
      location.assign(address);
      return;
    }
    if (!exactly && page.getElementById("main").dataset.open === from && !verdicts.judged(from) && !card.over) {
      quietly("Nothing else is waiting here.");
      return;
    }
    leaveCard();
    if (!back && card.id !== "") trail.push(main.dataset.address);
    show(page);
    if (!exactly && isJudged(document)) nothingElse();
    begin();
    if (restore !== null || drafts.has(card.id)) fillIn(restore?.what === "reject" ? restore.fields : drafts.get(card.id));
  } catch {
    quietly("The desk cannot be reached just now. Nothing was lost; try again in a moment.");
  } finally {
    busy = false;
    if (undoNext) takeBack();
  }
}

function isJudged(page) {
  return verdicts.judged(page.getElementById("main").dataset.open);
}

/** Return the address of a card on *page* that is not judged yet, the nearest below first; null if there is none. */
function unjudged(page, tried) {
  const at = page.getElementById("main").dataset;
  const open = listed(page).filter((each) => !verdicts.judged(each.id) && !tried.has(each.address));
  const below = open.find((each) => Number(each.id) > Number(at.open));
  const found = below ?? open[0];
  if (found !== undefined) return found.address;
  return at.next !== "" && !tried.has(at.next) ? at.next : null;
}

/** Say that all that waits is judged, and only waits to be sent. */
function nothingElse() {
  const fresh = document.getElementById("main");
  const empty = made("div", "empty", made("h1", "", "Nothing else is waiting"), made("p", "", "Your last verdicts are on their way."));
  const foot = fresh.querySelector(".foot");
  foot.replaceChildren(foot.querySelector("[data-strips]"));
  document.getElementById("reading").replaceChildren(empty, foot);
  fresh.dataset.open = "";
  fresh.dataset.next = "";
  history.replaceState(null, "", fresh.dataset.list);
}

function leaveCard() {
  if (card === null || card.id === "") return;
  const form = rejection();
  if (form !== null && !verdicts.judged(card.id)) {
    const fields = Object.fromEntries(new FormData(form));
    if (fields.reason || fields.told) drafts.set(card.id, fields);
  }
  clearInterval(beat);
  if (!verdicts.judged(card.id) && !card.over) letGo(main);
}

// Reading: claims, and what the others do

function read() {
  clearInterval(beat);
  sayWhoReads();
  beat = setInterval(sayWhoReads, seconds("beat") * 1000, false);
}

async function sayWhoReads(takeOver = false) {
  const at = card;
  if (at.over || verdicts.judged(at.id) || document.visibilityState !== "visible") return;
  const stands = await claim(main, takeOver);
  if (stands !== null && at === card) showClaim(main, stands);
}

async function watch() {
  if (signedOut || busy || watching) return;
  const seen = document.visibilityState === "visible";
  if (!seen && Date.now() - looked < seconds("glance") * 1000) return;
  watching = true;
  looked = Date.now();
  try {
    if (seen) await lookAround();
    else await lookAtNumbers();
  } finally {
    watching = false;
  }
}

/** Keep the title of a tab that nobody looks into true. What else changed is told once it is looked into again. */
async function lookAtNumbers() {
  const news = await glance(main.dataset.state);
  if (news !== null && news !== "signed out") showNumbers(news);
}

async function lookAround() {
  const at = card;
  const parted = main.dataset.state.includes("?") ? "&" : "?";
  const news = await look(`${main.dataset.state}${at.id === "" ? "" : `${parted}open=${at.id}`}`);
  if (news === null || at !== card) return;
  if (news === "signed out") {
    signedOut = true;
    quietly("You are signed out, here or in another window. What you wrote stays until you sign in again.");
    return;
  }
  showNumbers(news);
  await renewList(news.listed);
  if (at !== card) return;
  for (const each of news.listed) {
    const place = document.querySelector(`#waiting li[data-id="${each.id}"] [data-claimed]`);
    const words = each.claim === null || each.claim.mine ? "" : `${each.claim.by} is reading this`;
    if (place !== null && place.textContent !== words) place.textContent = words;
  }
  if (news.open !== null && !verdicts.judged(at.id)) newsOf(news.open);
}

function showNumbers({ numbers, title }) {
  for (const place of document.querySelectorAll("[data-number]")) {
    const number = numbers[place.dataset.number];
    if (place.textContent !== number) place.textContent = number;
  }
  const place = document.title.slice(document.title.indexOf("Desk"));
  document.title = `${title} ${title.includes(" ") ? "- " : ""}${place}`;
}

async function renewList(fresh) {
  const now = listed(document);
  const same = now.length === fresh.length && now.every((each, at) => each.id === String(fresh[at].id) && each.marks === fresh[at].marks);
  if (same) return;
  const page = await fetchPage(main.dataset.list).catch(() => null);
  if (page === null || busy) return;
  showList(page);
  hideJudged();
}

function newsOf(open) {
  if (open.pending) {
    showClaim(main, open.claim);
    if (String(open.proposal) !== main.dataset.proposal) {
      quietly("Somebody proposed or answered a veto meanwhile. ", { text: "Read it anew", act: () => go(main.dataset.address, { exactly: true }) });
    }
    return;
  }
  if (card.over) return;
  decidedElsewhere.add(card.id);
  end(open.said);
}

/** Grey the card: what is on it is decided, and its buttons do nothing any more. */
function end(sentence) {
  card.over = true;
  clearInterval(beat);
  const place = main.querySelector("[data-decided]");
  place.textContent = sentence;
  place.hidden = false;
  document.getElementById("reading").classList.add("over");
  for (const button of main.querySelectorAll(".bar button, #rejection button")) button.disabled = true;
  main.querySelector("[data-key=r]")?.setAttribute("aria-disabled", "true");
  said.textContent = sentence;
}

function hideJudged() {
  for (const each of document.querySelectorAll("#waiting li[data-id]")) each.hidden = verdicts.judged(each.dataset.id);
}

// Judging

function rejection() {
  return document.getElementById("rejection");
}

function judge(form, byKey) {
  const what = form.dataset.verdict;
  if (!mayJudge()) return;
  if (what === "approve" && byKey && !card.endSeen) {
    quietly("Read to the end first: a works once the end of the words was on the screen.");
    return;
  }
  if (what === "reject") {
    if (form.hidden) {
      ask(true);
      return;
    }
    const { reason, reason_code: code } = form.elements;
    reason.required = reason.minLength > 0 || (code instanceof RadioNodeList && code.value === "other");
    if (!form.reportValidity()) return;
  }
  const fields = Object.fromEntries(new FormData(form));
  drafts.delete(card.id);
  const label = main.querySelector(".whose h1").textContent.replace(/\s+/g, " ").trim();
  verdicts.give({ id: card.id, what, whose: label, address: main.dataset.address, action: form.action, fields }, seconds("undo"));
  go(main.dataset.next || main.dataset.list);
}

function mayJudge() {
  if (busy || card.id === "") return false;
  if (verdicts.judged(card.id)) {
    quietly("You have decided on this one. Undo takes it back.");
    return false;
  }
  if (card.over) {
    quietly(main.querySelector("[data-decided]").textContent);
    return false;
  }
  const left = card.shownAt + seconds("settle") * 1000 - Date.now();
  if (left > 0) {
    quietly(TOO_SOON);
    clearTimeout(settles);
    settles = setTimeout(sayItHasSettled, left, card);
    return false;
  }
  return true;
}

/** Tell whoever judged too soon that what they pressed was not taken, and is taken now. */
function sayItHasSettled(at) {
  if (at === card && said.textContent === TOO_SOON) quietly("Now it takes a verdict: press again.");
}

/** Open the form that asks why, or close it again. */
function ask(open) {
  const form = rejection();
  if (form === null) return;
  form.hidden = !open;
  main.querySelector("[data-bar=why]").hidden = !open;
  main.querySelector("[data-bar=verdict]").hidden = open;
  if (!open) {
    document.getElementById("reading").focus({ preventScroll: true });
    return;
  }
  const first = form.querySelector("input[type=radio]:checked") ?? form.querySelector("input[type=radio], textarea");
  first.focus({ preventScroll: true });
  form.scrollIntoView({ block: "nearest" });
}

function fillIn(fields) {
  const form = rejection();
  if (form === null || fields === undefined) return;
  ask(true);
  for (const [name, value] of Object.entries(fields)) {
    if (["csrf_token", "digest"].includes(name) || form.elements[name] === undefined) continue;
    form.elements[name].value = value;
  }
}

async function hold() {
  if (busy || card.id === "" || card.over) return;
  const form = main.querySelector("form[data-hold]");
  const begins = form.dataset.hold === "begin";
  const at = card;
  const answer = await fetch(form.action, {
    method: "POST",
    body: new URLSearchParams(new FormData(form)),
    headers: { Accept: "application/json" },
    redirect: "manual",
  }).catch(() => null);
  if (at !== card) return;
  if (answer === null || !answer.ok) {
    const told = answer?.headers.get("Content-Type")?.includes("json") ? (await answer.json()).sentence : null;
    quietly(told ?? "That did not arrive. Nothing was changed.");
    return;
  }
  said.textContent = begins ? "Held. A second reader decides." : "It waits among the others again.";
  at.over = true; // Its claim has ended with this.
  decidedElsewhere.add(at.id);
  await go(main.dataset.next || main.dataset.list);
  decidedElsewhere.delete(at.id);
  watch();
}

function onVerdict(what, verdict) {
  if (what === "held") said.textContent = `${verdict.what === "approve" ? "Approved" : "Rejected"}. Press u to take it back.`;
  if (what === "returned") said.textContent = verdict.sentence;
  showStrips();
  hideJudged();
}

function takeBack() {
  // The next card is on its way: it comes first, so that going back leads somewhere.
  undoNext = busy;
  if (busy) return;
  const verdict = verdicts.takeBack();
  if (verdict === null) {
    quietly("There is nothing to take back: your last verdict was sent.");
    return;
  }
  said.textContent = "Taken back.";
  go(verdict.address, { restore: verdict, exactly: true });
}

// Strips: verdicts that can be taken back, and those that came back

function showStrips() {
  const place = document.querySelector("[data-strips]");
  if (place === null) return;
  const waiting = verdicts.held.filter((each) => each.state === "held");
  const strips = verdicts.returned.map(returnedStrip);
  if (waiting.length > 0) strips.push(heldStrip(waiting.at(-1), verdicts.held.length - 1));
  else if (verdicts.held.length > 0) strips.push(made("div", "strip", made("p", "", "Sending what you decided.")));
  place.replaceChildren(...strips);
  place.hidden = strips.length === 0;
}

function heldStrip(verdict, others) {
  const left = Math.max(0, Math.ceil((verdict.due - Date.now()) / 1000));
  const done = verdict.what === "approve" ? "Approved" : "Rejected";
  const more = others > 0 ? ` ${others} more on the way.` : "";
  const button = made("button", "", "Undo", made("kbd", "", "u"));
  button.type = "button";
  button.addEventListener("click", takeBack);
  const clock = made("span", "clock", `sent in ${left} s`);
  clock.setAttribute("aria-hidden", "true");
  return made("div", "strip", made("p", "", `${done}: ${verdict.whose}.${more} `, clock), button);
}

function returnedStrip(verdict) {
  const done = verdict.what === "approve" ? "approved" : "rejected";
  const strip = made("div", "strip back", made("p", "", made("b", "", verdict.sentence), ` You had ${done}: ${verdict.whose}.`));
  strip.setAttribute("role", "group");
  for (const name of ["reason", "told"]) {
    if (verdict.fields[name]) strip.append(made("p", "plain", verdict.fields[name]));
  }
  const open = made("a", "button", "Open it");
  open.href = verdict.signedOut ? `/desk/sign-in?next=${encodeURIComponent(verdict.address)}` : (verdict.newer ?? verdict.address);
  if (verdict.signedOut) open.textContent = "Sign in";
  else {
    open.addEventListener("click", (event) => {
      event.preventDefault();
      go(open.getAttribute("href"), { restore: verdict, exactly: true });
    });
  }
  const away = made("button", "", "Put away");
  away.type = "button";
  away.addEventListener("click", () => verdicts.putAway(verdict.key));
  strip.append(made("p", "row", open, away));
  return strip;
}

function quietly(words, link = null) {
  const place = main.querySelector("[data-quietly]");
  said.textContent = words;
  if (place === null) return;
  place.textContent = words;
  if (link !== null) {
    const button = made("button", "quiet", link.text);
    button.type = "button";
    button.addEventListener("click", link.act);
    place.append(button);
  }
  place.hidden = false;
  clearTimeout(quiet);
  if (link === null) quiet = setTimeout(() => place.toggleAttribute("hidden", true), 6000);
}

function made(name, kind, ...inside) {
  const element = document.createElement(name);
  if (kind !== "") element.className = kind;
  element.append(...inside);
  return element;
}

// Keys and clicks

function moveOn() {
  go(main.dataset.next || main.dataset.list);
}

function moveBack() {
  let before = trail.pop();
  while (before !== undefined && judgedAt(before)) before = trail.pop();
  before ??= main.dataset.before;
  if (before) go(before, { back: true, exactly: true });
  else quietly("There is nothing before this one.");
}

function judgedAt(address) {
  return verdicts.held.some((each) => each.address === address);
}

function unfold() {
  const parts = [...main.querySelectorAll(".context details")];
  const open = parts.some((each) => !each.open);
  for (const each of parts) each.open = open;
}

/** While it is asked why, a digit chooses the reason, and a letter is the first of what somebody writes. */
function pressAskedWhy(key, why) {
  if (key === "?") {
    openHelp();
    return true;
  }
  if (/^[1-9]$/.test(key)) {
    const choice = why.querySelectorAll("input[type=radio]")[Number(key) - 1];
    if (choice === undefined) return false;
    choice.checked = true;
    choice.focus({ preventScroll: true });
    return true;
  }
  // The browser writes the letter where the focus is once the key was heard.
  if (/^\p{L}$/u.test(key)) why.elements.reason.focus();
  return false;
}

function press(key) {
  const why = rejection();
  if (why !== null && !why.hidden) return pressAskedWhy(key, why);
  const acts = {
    j: moveOn,
    k: moveBack,
    a: () => judge(main.querySelector("form[data-verdict=approve]"), true),
    r: () => mayJudge() && ask(true),
    h: hold,
    s: moveOn,
    o: unfold,
    u: takeBack,
    "?": openHelp,
  };
  if (!Object.hasOwn(acts, key)) return false;
  if (card.id === "" && ["a", "r", "h", "o"].includes(key)) return true;
  acts[key]();
  return true;
}

listen(press, heardKeys);

document.addEventListener("keydown", (event) => {
  const why = rejection();
  if (why === null || why.hidden || event.isComposing || document.querySelector("dialog[open]") !== null) return;
  if (event.key === "Escape") ask(false);
  else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    if (!event.repeat) judge(why, true);
  }
});

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.verdict !== undefined) {
    event.preventDefault();
    judge(form, pressedByKey);
  } else if (form.dataset.hold !== undefined) {
    event.preventDefault();
    hold();
  } else if (form.dataset.claim !== undefined) {
    event.preventDefault();
    sayWhoReads(true);
  } else if (form.dataset.unclaim !== undefined) {
    event.preventDefault();
    clearInterval(beat);
    letGo(main);
    showClaim(main, null);
  } else if (form.getAttribute("action")?.endsWith("/sign-out") && verdicts.held.length > 0) {
    event.preventDefault();
    // What is not sent before the session ends would be refused.
    verdicts.sendAll().then(() => {
      if (verdicts.returned.length === 0) form.submit();
    });
  }
});

// A button that is pressed by key is clicked by it: such a click has no count.
let pressedByKey = false;
document.addEventListener(
  "click",
  (event) => {
    pressedByKey = event.detail === 0;
    const link = event.target instanceof Element ? event.target.closest("a") : null;
    if (link === null || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    if (link.getAttribute("aria-disabled") === "true") {
      event.preventDefault();
      return;
    }
    const by = {
      r: () => mayJudge() && ask(true),
      s: moveOn,
      j: moveOn,
      k: moveBack,
    };
    if (link.dataset.key !== undefined) {
      event.preventDefault();
      by[link.dataset.key]();
    } else if (link.dataset.back !== undefined) {
      event.preventDefault();
      ask(false);
    } else if (link.closest("#waiting li") !== null) {
      event.preventDefault();
      go(link.getAttribute("href"), { exactly: true });
    }
  },
  true,
);
document.addEventListener("click", (event) => {
  if (event.target instanceof Element && event.target.closest("[data-help]") !== null) openHelp();
});

// Leaving

function leave() {
  verdicts.sendAll(true);
  if (card !== null && card.id !== "" && !card.over && !verdicts.judged(card.id)) letGo(main);
}

document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "hidden") verdicts.sendAll(true);
  else if (card.id !== "" && !card.over) sayWhoReads();
});
window.addEventListener("pagehide", leave);
window.addEventListener("pageshow", (event) => {
  if (!event.persisted) return;
  verdicts.takeUp();
  begin();
});

verdicts.takeUp();
begin();
setInterval(watch, seconds("poll") * 1000);
setInterval(() => {
  for (const clock of document.querySelectorAll(".strip .clock")) {
    const last = verdicts.held.findLast((each) => each.state === "held");
    if (last !== undefined) clock.textContent = `sent in ${Math.max(0, Math.ceil((last.due - Date.now()) / 1000))} s`;
  }
}, 1000);
