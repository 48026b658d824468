"use strict";
(() => {
  // Definitions: a link to the glossary opens its entry in place.
  const dialog = document.getElementById("definition");
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a.def");
    if (!link) return;
    const entry = document.getElementById(link.getAttribute("href").slice(1));
    if (!entry || !dialog.showModal) return;
    event.preventDefault();
    const copy = entry.cloneNode(true);
    copy.removeAttribute("id");
    copy.querySelector("h3").id = "definition-title";
    dialog.firstElementChild.replaceChildren(copy);
    dialog.showModal();
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });

  // Tables: sort by a column; a value is in data-v, or is the cell's text. What is absent is last.
  const value = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.v ?? cell.textContent.trim();
    const number = Number(text);
    return text === "" ? null : Number.isNaN(number) ? text : number;
  };
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-label", "Sort by " + head.textContent.trim());
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") === "descending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const body = table.tBodies[0];
        const rows = [...body.rows].map((row) => [value(row, column), row]);
        rows.sort(([a], [b]) => {
          if (a === null || b === null) return (a === null) - (b === null);
          return up ? compare(a, b) : compare(b, a);
        });
        body.append(...rows.map(([, row]) => row));
      });
      head.append(button);
    });
  }

  // Filters: hide the rows of a table that lack the text.
  for (const input of document.querySelectorAll("input[data-table]")) {
    input.closest(".filter").hidden = false;
    const table = document.getElementById(input.dataset.table);
    input.addEventListener("input", () => {
      const text = input.value.toLowerCase();
      for (const row of table.tBodies[0].rows) {
        row.hidden = !row.textContent.toLowerCase().includes(text);
      }
    });
  }

  // The theme: the system's, or the reader's choice, remembered where the browser allows it.
  const button = document.getElementById("theme");
  const themes = ["auto", "light", "dark"];
  const show = (theme) => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.textContent = "Theme: " + theme;
    button.dataset.theme = theme;
  };
  let saved = "auto";
  try {
    saved = localStorage.getItem("softloss-theme") ?? "auto";
  } catch {
    // No storage for this file.
  }
  const asked = /^#theme=(light|dark)$/.exec(location.hash);
  show(asked ? asked[1] : themes.includes(saved) ? saved : "auto");
  button.hidden = false;
  button.addEventListener("click", () => {
    const theme = themes[(themes.indexOf(button.dataset.theme) + 1) % themes.length];
    show(theme);
    try {
      localStorage.setItem("softloss-theme", theme);
    } catch {
      // No storage for this file.
    }
  });

  // Paper has no clicks: open what is folded.
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });
})();
