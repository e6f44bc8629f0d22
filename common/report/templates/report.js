"use strict";
// Everything on the page is readable without this script: it filters examples, switches measures and sorts tables.
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const which = document.getElementById("which");
  const everything = document.getElementById("everything");
  const back = document.getElementById("back");
  const unfiltered = which.textContent;
  const examples = all("article.example");
  let chosen = null;

  function show(cell) {
    chosen = cell;
    let count = 0;
    for (const example of examples) {
      example.hidden = cell !== null && example.dataset.number !== cell.dataset.number;
      count += !example.hidden;
    }
    for (const gallery of all(".gallery")) gallery.hidden = all("article:not([hidden])", gallery).length === 0;
    for (const other of all("g.cell")) {
      other.setAttribute("aria-pressed", cell !== null && other.dataset.number === cell.dataset.number);
    }
    which.textContent = cell === null
      ? unfiltered
      : `${cell.dataset.route}: ${count === 0 ? "no example is in this report." : `${count} of ${examples.length} shown.`}`;
    everything.hidden = back.hidden = cell === null;
  }

  function choose(cell) {
    show(cell);
    which.scrollIntoView({ block: "start" });
    which.focus({ preventScroll: true });
  }

  // One cell of each heat map is a tab stop; arrows move within the map.
  function move(from, rows, columns) {
    const cells = all("g.cell", from.ownerSVGElement);
    const place = (cell) => [Number(cell.dataset.row), Number(cell.dataset.column)];
    const [row, column] = place(from);
    const ahead = cells.filter((cell) => {
      const [r, c] = place(cell);
      return rows === 0 ? r === row && (c - column) * columns > 0 : c === column && (r - row) * rows > 0;
    });
    const distance = (cell) => Math.abs(place(cell)[0] - row) + Math.abs(place(cell)[1] - column);
    ahead.sort((a, b) => distance(a) - distance(b));
    if (ahead.length > 0) land(ahead[0]);
  }

  function land(cell) {
    for (const other of all("g.cell", cell.ownerSVGElement)) other.setAttribute("tabindex", -1);
    cell.setAttribute("tabindex", 0);
    cell.focus();
  }

  const arrows = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  for (const cell of all("g.cell")) {
    cell.addEventListener("click", () => choose(cell));
    cell.addEventListener("keydown", (event) => {
      if (event.key in arrows) move(cell, ...arrows[event.key]);
      else if (event.key === "Enter" || event.key === " ") choose(cell);
      else return;
      event.preventDefault();
    });
  }
  everything.addEventListener("click", () => {
    show(null);
    which.focus();
  });
  back.addEventListener("click", () => {
    chosen.scrollIntoView({ block: "center" });
    land(chosen);
  });

  for (const input of all(".measures input")) {
    input.addEventListener("change", () => {
      input.closest(".map").dataset.show = input.value;
    });
  }

  // Values that are not defined stay at the end, whichever way a column is sorted.
  function sort(table, column, sign) {
    const body = table.tBodies[0];
    const value = (row) => {
      const cell = row.cells[column];
      const text = cell.dataset.value ?? cell.textContent.trim();
      if (cell.dataset.value === undefined) return text;
      return text === "" ? null : Number(text);
    };
    const compare = (a, b) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return sign * (typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : a - b);
    };
    body.append(...[...body.rows].map((row) => [value(row), row]).sort((a, b) => compare(a[0], b[0])).map((x) => x[1]));
  }

  for (const table of all("table.sortable")) {
    all("thead th", table).forEach((head, column) => {
      head.firstElementChild.addEventListener("click", () => {
        const ascending = head.getAttribute("aria-sort") !== "ascending";
        for (const other of all("thead th", table)) other.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
        sort(table, column, ascending ? 1 : -1);
      });
    });
  }
})();
