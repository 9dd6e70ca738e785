// How many letters there are, for pages that list essays:
//   <script src="THIS-SITE/counts.js" async></script>
// It fills `<span data-emeritus-count="SLUG"></span>`, and links that end in "#emeritus" and name an essay: by
// `data-essay="SLUG"`, or by leading to the essay on this site. Described in docs/embedding.md.

(() => {
  const AT_ONCE = 100;
  const tag = document.currentScript;
  if (tag === null) return;
  const ours = new URL(tag.src).origin;
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", fill);
  else fill();

  async function fill() {
    const places = new Map();
    for (const each of document.querySelectorAll("[data-emeritus-count], a[href$='#emeritus']")) {
      const slug = slugOf(each);
      if (slug !== null) places.set(slug, [...(places.get(slug) ?? []), each]);
    }
    const slugs = [...places.keys()];
    const language = (tag.dataset.lang ?? document.documentElement.lang).trim().toLowerCase().split("-")[0];
    for (let begin = 0; begin < slugs.length; begin += AT_ONCE) {
      const asked = new URLSearchParams({ essays: slugs.slice(begin, begin + AT_ONCE).join(",") });
      if (/^[a-z]{2,3}$/.test(language)) asked.set("lang", language);
      try {
        const response = await fetch(`${ours}/api/v1/counts?${asked}`, { credentials: "omit" });
        if (!response.ok) return;
        const { counts } = await response.json();
        for (const [slug, { text }] of Object.entries(counts)) {
          for (const place of places.get(slug) ?? []) place.textContent = text;
        }
      } catch {
        return; // What stands there stays: a number is worth no error on somebody else's page.
      }
    }
  }

  function slugOf(element) {
    let slug = element.dataset.emeritusCount ?? element.dataset.essay;
    if (slug === undefined && element.href?.startsWith(`${ours}/essays/`)) slug = new URL(element.href).pathname.split("/")[2];
    slug = (slug ?? "").trim();
    return /^[a-z0-9]+(?:-[a-z0-9]+)*$/.test(slug) && slug.length <= 120 ? slug : null;
  }
})();
