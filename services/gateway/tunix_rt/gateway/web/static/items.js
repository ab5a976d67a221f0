"use strict";
// Filters items by kind and by text.

for (const section of document.querySelectorAll(".flips")) {
  const buttons = [...section.querySelectorAll("button[data-filter]")];
  const search = section.querySelector('input[type="search"]');
  const items = [...section.querySelectorAll(".flip")].map((element) => ({ element, text: element.textContent.toLowerCase() }));
  if (!search) continue;
  const apply = () => {
    const kind = buttons.find((button) => button.getAttribute("aria-pressed") === "true").dataset.filter;
    const words = search.value.toLowerCase();
    let shown = 0;
    for (const { element, text } of items) {
      element.hidden = (kind && !element.dataset.kind.split(" ").includes(kind)) || !text.includes(words);
      shown += !element.hidden;
      if (words && !element.hidden) element.open = true;
    }
    section.querySelector(".none").hidden = shown > 0;
  };
  search.addEventListener("input", apply);
  for (const button of buttons) {
    button.addEventListener("click", () => {
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      apply();
    });
  }
}
