"""Looks at a page for what nobody's words may bring into one, goes wherever a reader would, and shuts nobody out."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from ground.visiting import Visit

RUN = "window.__ran=1"
"""What hostile words would run."""
AWAY = "//evil.invalid/x"
"""Where they would call."""

# What nobody's words may bring into a page. It also goes where a reader would: over everything, into everything.
LOOK = """async () => {
  // The page's own autofocus comes with its first frame.
  for (let frame = 0; frame < 2; frame++) await new Promise(requestAnimationFrame);
  for (const each of document.querySelectorAll("details")) each.open = true;
  for (const each of document.querySelectorAll("body *")) {
    for (const kind of ["mouseover", "mouseenter", "pointerover"]) each.dispatchEvent(new Event(kind));
    if (each.matches("a, [tabindex], b, p")) each.focus?.({ preventScroll: true });
  }
  const found = [];
  for (const each of document.querySelectorAll("*")) {
    for (const { name, value } of each.attributes) {
      if (name.startsWith("on") || name === "style" || name === "srcdoc") found.push(`${each.localName} ${name}`);
      const leaves = each.matches(".words a, a[itemprop=isBasedOn], .disclaimer a[rel=noopener]");
      if (/^(href|src|action|formaction|poster|data)$/.test(name) && !leaves) {
        const url = new URL(value, location.href);
        if (url.origin !== location.origin) found.push(`${each.localName} ${name}=${value}`);
      }
      if (/^\\s*(javascript|vbscript|data):/i.test(value)) found.push(`${each.localName} ${name}=${value}`);
    }
    const words = each.closest(".words");
    if (each.matches("iframe, object, embed, base[href], meta[http-equiv], svg, math, template, noscript, style"))
      found.push(each.localName);
    if (words && each.matches("script, img, form, input, button, link, textarea")) found.push(each.localName);
  }
  return { found, ran: window.__ran ?? null, pages: document.querySelectorAll("main").length };
}"""


STANDARDS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
"""What axe holds pages against. Named, or it leaves out what it has switched off by itself: how large targets are."""


def shut_out(page: Page) -> list[str]:
    """Return what shuts somebody out of a page, as far as axe knows."""
    rules = {"resultTypes": ["violations"], "runOnly": {"type": "tag", "values": STANDARDS}}
    told = Axe().run(page, options=rules).response
    assert told["passes"], "axe held nothing against anything"
    return [f"{each['id']}: {node['html'][:160]}" for each in told["violations"] for node in each["nodes"]]


def look(visitor: Visit, where: str) -> None:
    """Fail for what has no place in the page that is open."""
    seen = look_at(visitor.page, where)
    assert seen["pages"] == 1, f"{where} shows no page"


def look_at(page: Page, where: str) -> dict[str, object]:
    """Fail for what has no place in any document; return what was seen."""
    seen: dict[str, object] = page.evaluate(LOOK)
    assert (seen["found"], seen["ran"]) == ([], None), where
    return seen
