"use strict";
// Headings become buttons that sort. Without this script the tables stand as they are, best first.
for (const hint of document.querySelectorAll(".sorts")) hint.hidden = false;
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const first = head.dataset.first || "descending";
      const order = before ? (before === "ascending" ? "descending" : "ascending") : first;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const key = (row) => row.cells[column].dataset.key ?? "";
      const compare = (a, b) => {
        const [x, y] = [key(a), key(b)];
        // What was not measured stays at the end, whichever way the column is sorted.
        if (x === "" || y === "") return (x === "") - (y === "");
        const numbers = !Number.isNaN(Number(x)) && !Number.isNaN(Number(y));
        const difference = numbers ? Number(x) - Number(y) : x.localeCompare(y, "en");
        return order === "ascending" ? difference : -difference;
      };
      body.append(...[...body.rows].sort(compare));
    });
  });
}
