// Several letters at once: x ticks the one that is read, j and k move, and the number that is ticked is told.

import { help, listen } from "./keys.js";

const main = document.getElementById("main");
const letters = [...main.querySelectorAll("[data-letter]")];
const heardKeys = () => main.dataset.shortcuts === "on";
const openHelp = help(heardKeys, (on) => {
  main.dataset.shortcuts = on ? "on" : "off";
});

function tickOf(letter) {
  return letter.querySelector("input[name=ticked]");
}

function here() {
  return letters.findIndex((each) => each.contains(document.activeElement));
}

function move(by) {
  const to = letters[Math.min(letters.length - 1, Math.max(0, here() + by))];
  if (to === undefined) return;
  tickOf(to).focus({ preventScroll: true });
  to.scrollIntoView({ block: "start" });
}

function count() {
  const ticked = letters.filter((each) => tickOf(each).checked).length;
  const place = main.querySelector("[data-ticked]");
  if (place !== null) place.textContent = `${ticked} of ${letters.length} ticked.`;
}

listen((key) => {
  if (key === "j") move(1);
  else if (key === "k") move(-1);
  else if (key === "x" && here() >= 0) tickOf(letters[here()]).click();
  else if (key === "?") openHelp();
  else return false;
  return true;
}, heardKeys);

main.addEventListener("change", count);
count();
