// Verdicts on their way: each is held for some seconds, in which it can be taken back, and then sent, in order. Leaving,
// hiding or closing the page sends them at once. What the site refuses comes back, with what was written.

const MORE_THAN_A_RELOAD = 1;
// A browser keeps 64 KiB alive, of all requests together that outlive their page (Fetch, 4.6: HTTP-network-or-cache fetch).
const AT_ONCE = 40 * 1024;

/** Keep the verdicts of one moderator. *told* is called after each change, with what happened to which verdict. */
export function verdictsOf(me, told) {
  const shelf = `emeritus:verdicts:${me}`;
  let held = [];
  let returned = [];
  const done = new Set();
  let line = Promise.resolve();
  let number = Date.now();
  let left = false;
  window.addEventListener("pagehide", () => {
    left = true;
  });
  window.addEventListener("pageshow", () => {
    left = false;
  });

  function keep() {
    const kept = { held: held.map(({ timer, ...rest }) => rest), returned };
    if (held.length + returned.length === 0) sessionStorage.removeItem(shelf);
    else sessionStorage.setItem(shelf, JSON.stringify(kept));
  }

  function change(what, verdict) {
    keep();
    told(what, verdict);
  }

  function fetchVerdict(verdict, keepalive) {
    const body = new URLSearchParams(verdict.fields);
    const token = document.querySelector("input[name=csrf_token]");
    if (token !== null) body.set("csrf_token", token.value);
    return fetch(verdict.action, { method: "POST", body, headers: { Accept: "application/json" }, redirect: "manual", keepalive });
  }

  /** Send one verdict now; with *leaving*, so that it arrives even if this page does not live to see it. */
  async function post(verdict, leaving = false) {
    let answer = null;
    let said = {};
    try {
      answer = await fetchVerdict(verdict, leaving).catch((error) => {
        if (!leaving) throw error;
        // More than a browser keeps alive. The page may live on: it may only be hidden.
        verdict.tries += 1;
        return fetchVerdict(verdict, false);
      });
      if (answer.headers.get("Content-Type")?.includes("json")) said = await answer.json();
    } catch {
      // Nobody answered, or what answered was cut off: said as such below.
    }
    if (!held.includes(verdict)) return;
    // Cut off by leaving: it stays on the shelf as sent, and whoever takes it up sends it again.
    if (answer === null && left) return;
    held = held.filter((each) => each !== verdict);
    const came = answer !== null && answer.ok;
    // A verdict that was sent as a page was left is sent again by the next one, which learns that it arrived.
    const arrivedBefore = said.mine === true && verdict.tries > MORE_THAN_A_RELOAD && isThe(said.verdict, verdict.what);
    if (came || arrivedBefore) {
      // A page that was fetched before shows it as waiting still. A proposal does wait, for somebody else.
      if (said.came_to !== "proposed" && said.verdict !== "proposed") done.add(verdict.id);
      change("sent", { ...verdict, came_to: said.came_to });
      return;
    }
    returned.push({ ...verdict, sentence: sentenceOf(answer, said), signedOut: answer?.status === 401, newer: said.newer ?? null });
    change("returned", returned.at(-1));
  }

  function begin(verdict, leaving) {
    clearTimeout(verdict.timer);
    verdict.state = "sent";
    verdict.tries += 1;
    return post(verdict, leaving);
  }

  /** Send the oldest that are held, as long as all together are more than can be sent as the page is left. */
  function sendWhatIsTooMuch() {
    const waiting = held.filter((each) => each.state === "held" || each.state === "due");
    let size = waiting.reduce((sum, each) => sum + sizeOf(each), 0);
    while (size > AT_ONCE && waiting.length > 1) {
      const oldest = waiting.shift();
      size -= sizeOf(oldest);
      begin(oldest, false);
    }
  }

  return {
    /** Hold a verdict for *seconds*, then send it. */
    give(verdict, seconds) {
      const given = { ...verdict, key: (number += 1), due: Date.now() + seconds * 1000, state: "held", tries: 0 };
      returned = returned.filter((each) => each.id !== verdict.id);
      given.timer = setTimeout(() => {
        if (given.state !== "held") return;
        given.state = "due";
        line = line.then(() => (given.state === "due" ? begin(given, false) : undefined));
      }, seconds * 1000);
      held.push(given);
      sendWhatIsTooMuch();
      change("held", given);
    },

    /** Take the latest verdict back that was not sent yet, and return it; null if there is none. */
    takeBack() {
      const last = held.findLast((each) => each.state === "held");
      if (last === undefined) return null;
      clearTimeout(last.timer);
      held = held.filter((each) => each !== last);
      change("taken back", last);
      return last;
    },

    /** Send all that is held, in order; resolves when each was answered. */
    sendAll(leaving = false) {
      const waiting = held.filter((each) => each.state === "held" || each.state === "due");
      const answers = waiting.map((each) => begin(each, leaving));
      keep();
      return Promise.all(answers);
    },

    /** Take up what an earlier page of this tab left: what it sent is sent again to learn whether it arrived. */
    takeUp() {
      if (held.length > 0) {
        // This very page was kept alive by the browser, and what it sent may have been cut off.
        for (const each of held) if (each.state === "sent") begin(each, false);
        return;
      }
      let left = null;
      try {
        left = JSON.parse(sessionStorage.getItem(shelf) ?? "null");
      } catch {
        sessionStorage.removeItem(shelf);
      }
      if (left === null) return;
      // Whoever is here is signed in.
      returned = left.returned.map((each) => ({ ...each, signedOut: false }));
      for (const verdict of left.held) {
        if (verdict.state === "sent") {
          held.push(verdict);
          begin(verdict, false);
        } else {
          returned.push({ ...verdict, sentence: "The page ended before this was seen to arrive. Open it to see.", newer: null });
        }
      }
      change("taken up", null);
    },

    putAway(key) {
      returned = returned.filter((each) => each.key !== key);
      change("put away", null);
    },

    /** What can be taken back or is on its way, oldest first. */
    get held() {
      return held;
    },
    get returned() {
      return returned;
    },
    judged(id) {
      return done.has(id) || held.some((each) => each.id === id);
    },
  };
}

function sizeOf(verdict) {
  return new URLSearchParams(verdict.fields).toString().length;
}

function isThe(verdict, what) {
  return verdict === what || (verdict === "proposed" && what === "reject");
}

function sentenceOf(answer, said) {
  if (said.sentence !== undefined) return said.sentence;
  if (answer === null) return "The desk cannot be reached, so it is not known whether this arrived. Open it to see.";
  if (answer.status === 401 || answer.type === "opaqueredirect") return "You are signed out. Nothing was changed. Sign in, and it is here again.";
  if (answer.status === 400) return "This page is too old to send it. Nothing was changed. Load the page again.";
  if (answer.status === 403) return "You may not decide here. Nothing was changed.";
  return `The desk answered with an error (${answer.status}). Open it to see whether it was decided.`;
}
