"use strict";
// One exhibit at a time: the one that the address names after its #, or the first. So each has an address of its own.
// An address that names none leads to the list of all, and says so.
const exhibits = [...document.querySelectorAll("article")];
const [chooser, previous, next, place, unknown] = ["chooser", "previous", "next", "place", "unknown"].map(
  (name) => document.getElementById(name),
);

function show() {
  const name = location.hash.slice(1);
  const named = exhibits.findIndex((exhibit) => exhibit.id === name);
  const shown = Math.max(named, 0);
  exhibits.forEach((exhibit, i) => { exhibit.hidden = i !== shown; });
  chooser.value = exhibits[shown].id;
  previous.disabled = shown === 0;
  next.disabled = shown === exhibits.length - 1;
  place.textContent = `${shown + 1} of ${exhibits.length}`;
  unknown.hidden = named >= 0 || name === "" || name === "all";
  if (named >= 0) exhibits[shown].scrollIntoView();
  else if (!unknown.hidden) document.getElementById("all").scrollIntoView();
}

function go(by) {
  // Not by location.hash: following a link takes the focus away, and the arrow keys with it.
  history.replaceState(null, "", `#${exhibits[chooser.selectedIndex + by].id}`);
  const used = document.activeElement;
  show();
  if (used.disabled) (used === next ? previous : next).focus(); // at an end: a disabled button would lose the focus
}

chooser.addEventListener("change", () => go(0));
previous.addEventListener("click", () => go(-1));
next.addEventListener("click", () => go(+1));
addEventListener("hashchange", () => { if (location.hash !== "#all") show(); });

// The list of all is narrowed down by words, which may stand anywhere, and by the columns that have a choice.
const [search, found] = ["search", "found"].map((name) => document.getElementById(name));
const filters = [...document.querySelectorAll(".filters select")];
const rows = [...document.querySelectorAll("#all tbody tr")];

function narrow() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of rows) {
    const said = row.querySelector("a").dataset.words;
    const chosen = filters.every((filter, i) => !filter.value || row.cells[i + 1].textContent === filter.value);
    row.hidden = !(chosen && words.every((word) => said.includes(word)));
  }
  found.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
}

for (const control of [search, ...filters]) control.addEventListener("input", narrow);
narrow();
document.querySelectorAll(".chooser, .filters").forEach((part) => { part.hidden = false; });
show();
