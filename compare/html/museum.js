"use strict";
// Shows one exhibit at a time: the one whose name follows the # of the address, or the first. If the address names no
// exhibit, a message says so above the list of all.
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
  // replaceState, because a change of location.hash would move the keyboard focus away from the control.
  history.replaceState(null, "", `#${exhibits[chooser.selectedIndex + by].id}`);
  const used = document.activeElement;
  show();
  if (used.disabled) (used === next ? previous : next).focus(); // a button that becomes disabled loses the focus
}

chooser.addEventListener("change", () => go(0));
previous.addEventListener("click", () => go(-1));
next.addEventListener("click", () => go(+1));
addEventListener("hashchange", () => { if (location.hash !== "#all") show(); });

// The list of all is filtered by words, which may occur anywhere in an exhibit's texts, and by the values of columns.
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
