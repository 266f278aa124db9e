"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const slider = document.getElementById("moment");
const said = document.querySelector("output[for=moment]");
const live = document.querySelectorAll("[data-live]");
const contours = document.querySelectorAll("[data-contour]");
const marker = document.querySelector("[data-marker]");

function show(index) {
  slider.setAttribute("aria-valuetext", data.said[index]);
  said.textContent = data.said[index];
  data.live[index].forEach((text, i) => {
    live[i].textContent = text;
    if (live[i].classList.contains("verdict")) live[i].className = "verdict " + text.split(" ")[1];
  });
  contours.forEach((path, i) => path.setAttribute("d", data.contours[index][i]));
  const [x, y] = data.markers[index];
  marker.setAttribute("cx", x);
  marker.setAttribute("cy", y);
}

slider.hidden = false;
slider.addEventListener("input", () => show(slider.valueAsNumber));
show(slider.valueAsNumber);  // some browsers restore the position of the slider when a page is reloaded

// In the frame of a notebook, the browser would look for the target of a link in the notebook's page.
if (location.href === "about:srcdoc") {
  addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    if (!link) return;
    event.preventDefault();
    document.getElementById(link.getAttribute("href").slice(1)).scrollIntoView();
  });
}
