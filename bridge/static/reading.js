// Who is reading what: says it for the card on this screen, again and again while it can be seen, and looks what others do.

/** Claim the submission of *main*, or take it over; returns what the site says, or null if it cannot be asked. */
export async function claim(main, takeOver = false) {
  const form = main.querySelector("form[data-claim]");
  if (form === null) return null;
  return ask(form.action, { take_over: takeOver ? "yes" : "" });
}

/** Say that nobody reads it here any more, even if this page does not live to see the answer. */
export function letGo(main) {
  const form = main.querySelector("form[data-unclaim]");
  if (form !== null) ask(form.action, {}, true);
}

/** Show whose claim stands. */
export function showClaim(main, claim) {
  const who = main.querySelector("[data-who]");
  if (who === null) return;
  const [begin, end] = [main.querySelector("form[data-claim]"), main.querySelector("form[data-unclaim]")];
  let words = "Nobody has said so.";
  if (claim !== null) words = claim.mine ? `You, until ${claim.until}.` : `${claim.by} is reading this, until ${claim.until}.`;
  if (who.textContent !== words) who.textContent = words;
  begin.hidden = claim !== null && claim.mine;
  end.hidden = !begin.hidden;
  begin.querySelector("button").textContent = claim === null ? "Read this one" : "Take it over";
}

/** Ask what waits and who reads what. Returns null if that is known already, and "signed out" if nobody may know. */
export function watcher() {
  let known = { address: null, tag: null };
  return async (address) => {
    const headers = { Accept: "application/json" };
    if (known.address === address && known.tag !== null) headers["If-None-Match"] = known.tag;
    let answer;
    try {
      answer = await fetch(address, { headers, redirect: "manual", cache: "no-store" });
    } catch {
      return null; // Nobody answers just now; the next look may be luckier.
    }
    if (answer.type === "opaqueredirect" || answer.status === 401 || answer.status === 403) return "signed out";
    if (!answer.ok) return null;
    known = { address, tag: answer.headers.get("ETag") };
    return answer.json();
  };
}

async function ask(action, fields, leaving = false) {
  const token = document.querySelector("input[name=csrf_token]").value;
  try {
    const answer = await fetch(action, {
      method: "POST",
      body: new URLSearchParams({ csrf_token: token, ...fields }),
      headers: { Accept: "application/json" },
      redirect: "manual",
      keepalive: leaving,
    });
    return answer.ok && answer.status !== 204 ? await answer.json() : null;
  } catch {
    return null; // A claim is advice: reading goes on without it.
  }
}
