// Passages of an essay: words that are selected are offered to write about, and quoted ones are found and shown again.

const SETTLES = 150;

/** Offer whoever selects words of the essay to write about them, as far as they stand in one block. */
export function letThemChoose(says) {
  const form = document.querySelector("form.write:has([data-quoting])");
  const essay = document.querySelector(".essay > .words:has(> .block)");
  if (form === null || essay === null || form.elements.passage === undefined) return;
  const offered = document.createElement("div");
  offered.className = "offered";
  const button = document.createElement("button");
  button.type = "button";
  button.className = "primary choose";
  button.textContent = says.choose;
  const note = document.createElement("p");
  note.className = "choose small";
  note.setAttribute("role", "status");
  note.textContent = says.tooLong;
  let chosen = null;
  let settling;

  function offer() {
    const now = chosenIn(essay);
    // Whoever walked on to the button with the keyboard is about to press it, for what they chose before.
    if (now === null && document.activeElement === button) return;
    chosen = now;
    if (chosen === null) {
      offered.remove();
      return;
    }
    const fits = [...chosen.words].length <= Number(says.limit) ? button : note;
    if (offered.firstChild !== fits) offered.replaceChildren(fits);
    // Behind the block in the order of the page too, and in its place on the screen by the style sheet.
    if (offered.parentNode !== chosen.block) chosen.block.append(offered);
  }

  document.addEventListener("selectionchange", () => {
    clearTimeout(settling);
    settling = setTimeout(offer, SETTLES);
  });
  // Pressed with a pointer, a button would end the selection before it could be read.
  button.addEventListener("pointerdown", (event) => event.preventDefault());
  button.addEventListener("mousedown", (event) => event.preventDefault());
  button.addEventListener("click", () => {
    if (chosen === null) return;
    write(form, chosen);
    offered.remove();
    getSelection().removeAllRanges();
  });
  button.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    // To the block's own link, or the focus would fall to the page's beginning.
    offered.parentElement?.querySelector("a.about-block")?.focus();
    offered.remove();
  });
}

/** Return what is selected of the first block that is: its words as the site compares them, and where; else null. */
function chosenIn(essay) {
  const selection = getSelection();
  if (selection === null || selection.isCollapsed || selection.rangeCount === 0) return null;
  const range = selection.getRangeAt(0);
  if (!essay.contains(range.startContainer)) return null;
  for (const block of essay.querySelectorAll(":scope > .block")) {
    const within = clipped(range, block.firstElementChild);
    const words = within?.toString().replace(/\s+/g, " ").trim() ?? "";
    if (words !== "") return { block, words };
  }
  return null;
}

function clipped(range, element) {
  if (element === null || !range.intersectsNode(element)) return null;
  const within = document.createRange();
  within.selectNodeContents(element);
  if (range.compareBoundaryPoints(Range.START_TO_START, within) > 0) within.setStart(range.startContainer, range.startOffset);
  if (range.compareBoundaryPoints(Range.END_TO_END, within) < 0) within.setEnd(range.endContainer, range.endOffset);
  return within;
}

/** Have the letter be about the chosen words, and go to it. */
function write(form, { block, words }) {
  form.elements.passage.value = words;
  form.elements.passage_block.value = block.id.slice(1);
  const quoting = form.querySelector("[data-quoting]");
  quoting.querySelector("[data-quoted]").textContent = words;
  quoting.hidden = false;
  // The form keeps it with the draft.
  form.elements.passage.dispatchEvent(new Event("input", { bubbles: true }));
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  form.elements.body.focus({ preventScroll: true });
  quoting.scrollIntoView({ block: "start", behavior: calm ? "instant" : "smooth" });
}

/** Return where in the essay the words that a letter quotes stand: in their block, or where they are found first. */
export function passagesOf(quote) {
  // Without the label before them.
  const words = quote.querySelector("[itemprop='text']").textContent.replace(/\s+/g, " ").trim();
  const named = document.getElementById(`b${quote.dataset.block}`);
  for (const block of [named, ...document.querySelectorAll(".essay > .words > .block")]) {
    const found = block?.firstElementChild ? find(block.firstElementChild, words) : null;
    if (found !== null) return [found];
  }
  return [];
}

/** Return the stretches of a block that letters quote, as the site counted them: "4-13 20-24". */
export function stretchesOf(block, quoted) {
  const { places } = shownBy(block.firstElementChild);
  return quoted
    .split(" ")
    .map((stretch) => stretch.split("-").map(Number))
    .filter(([begin, end]) => begin < end && end <= places.length)
    .map(([begin, end]) => rangeOf(places, begin, end));
}

function find(element, words) {
  const { text, places } = shownBy(element);
  const begins = words === "" ? -1 : text.indexOf(words);
  return begins < 0 ? null : rangeOf(places, begins, begins + words.length);
}

/** Return the text that an element shows, each white space being one blank, and where each of its characters stands. */
function shownBy(element) {
  let text = "";
  const places = [];
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node !== null; node = walker.nextNode()) {
    for (let at = 0; at < node.data.length; at += 1) {
      const blank = /\s/.test(node.data[at]);
      if (blank && (text === "" || text.endsWith(" "))) continue;
      text += blank ? " " : node.data[at];
      places.push([node, at]);
    }
  }
  return { text, places };
}

function rangeOf(places, begin, end) {
  const range = document.createRange();
  range.setStart(...places[begin]);
  const [node, at] = places[end - 1];
  range.setEnd(node, at + 1);
  return range;
}

/** Show passages in the essay, and no others. Where a browser cannot, the quotation beside the letter has to do. */
export function highlight(ranges) {
  if (typeof Highlight === "undefined" || !CSS.highlights) return;
  CSS.highlights.set("passage", new Highlight(...ranges));
}
