// One tag puts an essay's correspondence where it stands:
//   <script src="THIS-SITE/embed.js" data-essay="SLUG" async></script>
// It adds a frame, and a link that shows if the frame does not; nothing else of that page is read or touched but its
// language and whether it is light or dark. Optional: data-theme="auto|light|dark", data-lang="en". Described in
// docs/embedding.md. Messages are `{ emeritus: { v: 1, ... } }` and carry numbers only.

(() => {
  const VERSION = 1;
  const LEAST = 320;
  const MOST = 200000;
  const WAITS = 6000;
  const SAYS = { en: ["Letters and answers", "Read the letters and answers on a page of their own"] };
  const LETTER = /^#(?:letter|answer)-([0-9a-f]{32})$/;

  // A loader that puts scripts into the page itself leaves no `currentScript`.
  const tags = document.currentScript
    ? [document.currentScript]
    : [...document.querySelectorAll("script[data-essay]")].filter((each) => /\/embed\.js(?:\?|$)/.test(each.src));
  for (const tag of tags) {
    if (tag.dataset.emeritus !== undefined) continue;
    tag.dataset.emeritus = "here";
    embed(tag);
  }

  function embed(tag) {
    const ours = new URL(tag.src).origin;
    const slug = (tag.dataset.essay ?? "").trim();
    const place = document.createElement("div");
    if (document.getElementById("emeritus") === null) place.id = "emeritus";
    tag.after(place);
    if (!/^[a-z0-9]+(?:-[a-z0-9]+)*$/.test(slug) || slug.length > 120) {
      place.textContent = `Emeritus: data-essay="${slug}" names no essay. It is the last part of the essay's address, such as "on-rest".`;
      return;
    }

    const language = (tag.dataset.lang ?? tag.closest("[lang]")?.lang ?? "").trim().toLowerCase().split("-")[0];
    const [title, invitation] = SAYS[language] ?? SAYS.en;
    const query = /^[a-z]{2,3}$/.test(language) ? `?lang=${language}` : "";
    const essay = `${ours}/essays/${slug}`;

    const link = document.createElement("a");
    link.href = essay + query;
    link.textContent = invitation;
    link.hidden = true;

    const frame = document.createElement("iframe");
    frame.title = title;
    frame.referrerPolicy = "strict-origin-when-cross-origin";
    frame.loading = LETTER.test(location.hash) ? "eager" : "lazy";
    // The page's policy on styles does not apply to these.
    Object.assign(frame.style, { display: "block", width: "100%", minHeight: `${LEAST}px`, height: `${LEAST}px`, border: "0" });
    let dark = isDark(tag, place);
    frame.style.colorScheme = dark ? "dark" : "light";
    frame.name = `emeritus-${dark ? "dark" : "light"}`;
    frame.src = addressOf(location.hash);
    place.append(frame, link);
    if (location.hash === "#emeritus") place.scrollIntoView();

    let answered = false;
    let loads = 0;
    let waiting;
    const over = new AbortController();
    const while_here = { signal: over.signal };

    window.addEventListener("message", hear, while_here);
    window.addEventListener("hashchange", () => {
      if (LETTER.test(location.hash)) frame.src = addressOf(location.hash);
    }, while_here);
    const prefers = matchMedia("(prefers-color-scheme: dark)");
    prefers.addEventListener("change", follow, while_here);
    const changes = new MutationObserver(follow);
    for (const each of [document.documentElement, document.body, tag]) changes.observe(each, { attributes: true });
    // A style sheet may come after this script, and a colour may take its time to change.
    for (const each of ["load", "transitionend"]) document.addEventListener(each, follow, { capture: true, ...while_here });

    frame.addEventListener("load", () => {
      loads += 1;
      // After a step within the frame its beginning is what is to be read.
      if (loads > 1 && frame.getBoundingClientRect().top < 0) frame.scrollIntoView();
      answered = false;
      tell({ dark: dark ? 1 : 0 });
      clearTimeout(waiting);
      // A frame that was refused, by its site or by this page's policy, loads too, and says nothing.
      waiting = setTimeout(() => show(answered), WAITS);
    });

    function addressOf(hash) {
      const letter = LETTER.exec(hash);
      return letter === null ? `${essay}/embed${query}` : `${essay}/embed/at/${letter[1]}${query}${hash}`;
    }

    function tell(numbers) {
      frame.contentWindow?.postMessage({ emeritus: { v: VERSION, ...numbers } }, ours);
    }

    function hear(event) {
      if (!frame.isConnected) {
        over.abort();
        changes.disconnect();
        return;
      }
      if (event.source !== frame.contentWindow || event.origin !== ours) return;
      const said = event.data?.emeritus;
      if (said?.v !== VERSION) return;
      answered = true;
      show(true);
      if (Number.isFinite(said.height)) frame.style.height = `${Math.min(Math.max(Math.ceil(said.height), LEAST), MOST)}px`;
      if (Number.isFinite(said.top)) {
        const top = Math.min(Math.max(said.top, 0), frame.offsetHeight);
        window.scrollTo({ top: window.scrollY + frame.getBoundingClientRect().top + top - 16 });
      }
    }

    function show(it) {
      frame.hidden = !it;
      frame.style.display = it ? "block" : "none";
      link.hidden = it;
    }

    function follow() {
      const now = isDark(tag, place);
      if (now === dark) return;
      dark = now;
      frame.style.colorScheme = dark ? "dark" : "light";
      if (loads > 0) tell({ dark: dark ? 1 : 0 }); // Else it is told when it has loaded.
    }
  }

  /** Whether it is to be dark: as the tag says, else as the page declares, else as the colour behind it is. */
  function isDark(tag, place) {
    const asked = (tag.dataset.theme ?? "auto").trim();
    if (asked === "dark" || asked === "light") return asked === "dark";
    const declared = getComputedStyle(place).colorScheme;
    const scheme = (declared && declared !== "normal" ? declared : document.querySelector("meta[name='color-scheme']")?.content ?? "").split(/\s+/);
    if (scheme.includes("dark")) return !scheme.includes("light") || matchMedia("(prefers-color-scheme: dark)").matches;
    if (scheme.includes("light")) return false;
    for (let at = place; at !== null; at = at.parentElement) {
      const colour = /^rgba?\(([\d.]+), ([\d.]+), ([\d.]+)(?:, ([\d.]+))?\)$/.exec(getComputedStyle(at).backgroundColor);
      if (colour === null || Number(colour[4] ?? 1) < 0.5) continue;
      return 0.299 * colour[1] + 0.587 * colour[2] + 0.114 * colour[3] < 128;
    }
    return false;
  }
})();
