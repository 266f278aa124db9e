"use strict";
// One exhibit at a time: the one that the address names after its #, or the first. So each has an address of its own.
const exhibits = [...document.querySelectorAll("article")];
const [chooser, previous, next, place] = ["chooser", "previous", "next", "place"].map(
  (name) => document.getElementById(name),
);

function show() {
  const named = exhibits.findIndex((exhibit) => exhibit.id === location.hash.slice(1));
  const shown = Math.max(named, 0);
  exhibits.forEach((exhibit, i) => { exhibit.hidden = i !== shown; });
  chooser.value = exhibits[shown].id;
  previous.disabled = shown === 0;
  next.disabled = shown === exhibits.length - 1;
  place.textContent = `${shown + 1} of ${exhibits.length}`;
  if (named >= 0) exhibits[shown].scrollIntoView();
}

function go(by) {
  // Not by location.hash: following a link takes the focus away, and the arrow keys with it.
  history.replaceState(null, "", `#${exhibits[chooser.selectedIndex + by].id}`);
  show();
}

chooser.addEventListener("change", () => go(0));
previous.addEventListener("click", () => go(-1));
next.addEventListener("click", () => go(+1));
addEventListener("hashchange", () => { if (location.hash !== "#all") show(); });
document.querySelector(".chooser").hidden = false;
show();
