"use strict";
// The page is whole without this script, which keeps it new: it asks for the parts that have changed, no more often than
// the server says, and says what a chart has where the pointer is.
const main = document.querySelector("main[data-parts]");
const connection = document.getElementById("connection");
const footer = connection.textContent;
const shown = new Map();

function replace(id, markup) {
  const place = document.getElementById(id);
  if (!place || shown.get(id) === markup) return;
  shown.set(id, markup);
  const controls = () => [...place.querySelectorAll("a, input, summary")];
  const open = [...place.querySelectorAll("details")].map((one) => one.open);
  const checked = new Set([...place.querySelectorAll("input:checked")].map((one) => one.value));
  const scrolled = [...place.querySelectorAll(".scroll, .log")].map((one) => [one.scrollLeft, one.scrollTop]);
  const focused = controls().indexOf(document.activeElement);
  place.innerHTML = markup;
  place.querySelectorAll("details").forEach((one, i) => { one.open = open[i] || false; });
  place.querySelectorAll("input").forEach((one) => { one.checked = checked.has(one.value); });
  place.querySelectorAll(".scroll, .log").forEach((one, i) => {
    if (scrolled[i]) [one.scrollLeft, one.scrollTop] = scrolled[i];
  });
  if (focused >= 0) controls()[focused]?.focus();
}

async function look() {
  let again = Number(main.dataset.again);
  if (!document.hidden) {
    try {
      const address = new URL(main.dataset.parts, location.href);
      address.searchParams.set("seen", main.dataset.version);
      const answer = await fetch(address, {cache: "no-store"});
      if (answer.status === 200) {
        const found = await answer.json();
        for (const [id, markup] of Object.entries(found.parts)) replace(id, markup);
        main.dataset.version = found.version;
        main.dataset.again = again = found.again;
        document.title = found.title;
      }
      const fine = answer.ok;
      connection.classList.toggle("stale", !fine);
      connection.textContent = fine ? footer : `The server answers ${answer.status}: this page may be old.`;
    } catch {
      connection.classList.add("stale");
      connection.textContent = "The server does not answer: this page is as it was.";
    }
  }
  setTimeout(look, 1000 * again);
}
if (main) setTimeout(look, 1000 * Number(main.dataset.again));

const SVG = "http://www.w3.org/2000/svg";
function leave(svg) {
  svg.querySelector(".cursor")?.remove();
  svg.parentElement.querySelector(".said-here")?.remove();
}
document.addEventListener("pointerout", (event) => {
  const svg = event.target.closest?.("svg[data-at]");
  if (svg && !svg.contains(event.relatedTarget)) leave(svg);
});
document.addEventListener("pointermove", (event) => {
  const svg = event.target.closest?.("svg[data-at]");
  if (!svg) return;
  const at = svg.dataset.at.split(" ").map(Number);
  const frame = svg.getBoundingClientRect();
  const x = (event.clientX - frame.left) * svg.viewBox.baseVal.width / frame.width;
  const near = at.reduce((best, place, i) => (Math.abs(place - x) < Math.abs(at[best] - x) ? i : best), 0);
  leave(svg);
  const line = svg.appendChild(document.createElementNS(SVG, "line"));
  for (const [name, value] of Object.entries({class: "cursor", x1: at[near], x2: at[near], y1: 8, y2: 172}))
    line.setAttribute(name, value);
  const said = document.createElement("div");
  said.className = "said-here";
  said.textContent = svg.dataset.text.split("\n")[near];
  svg.after(said);
});
