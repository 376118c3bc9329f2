"use strict";
// A table is sorted by a click on a head: up, down, as it was.
const number = text => {
  const found = text.replaceAll("−", "-").match(/^<?([+-]?\d+(\.\d+)?)(?![\w.])/);
  return found ? Number(found[1]) - (text.startsWith("<") ? 1e-9 : 0) : NaN;
};

function sort(table, column, order) {
  const body = table.tBodies[0], rows = [...body.rows];
  rows.forEach((row, place) => { row.dataset.place ??= place; });
  const text = row => row.cells[column].textContent.trim();
  const full = rows.filter(row => order && text(row)), empty = rows.filter(row => !(order && text(row)));
  const numeric = full.every(row => !Number.isNaN(number(text(row))));
  const compare = numeric ? (a, b) => number(text(a)) - number(text(b))
    : (a, b) => text(a).localeCompare(text(b), "en", {numeric: true});
  full.sort((a, b) => order * compare(a, b) || a.dataset.place - b.dataset.place);
  empty.sort((a, b) => a.dataset.place - b.dataset.place);
  body.append(...full, ...empty);
}

for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const order = {ascending: -1, descending: 0}[head.ariaSort] ?? 1;
      for (const other of heads) other.removeAttribute("aria-sort");
      if (order) head.ariaSort = order > 0 ? "ascending" : "descending";
      sort(table, column, order);
    });
  });
}

// What is folded opens for a link to it, and for paper.
const unfold = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target?.tagName === "DETAILS") target.open = true;
  target?.scrollIntoView();
};
addEventListener("hashchange", unfold);
if (location.hash) unfold();
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  for (const part of folded) part.open = true;
});
addEventListener("afterprint", () => { for (const part of folded) part.open = false; });
