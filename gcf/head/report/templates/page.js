// Shows one arm at a time where there is a choice, and opens what is folded before it is printed.
(() => {
  "use strict";
  const all = (selector) => Array.from(document.querySelectorAll(selector));
  const choices = all("select[data-choose]");
  const panels = all("[data-arm]");
  const show = (value) => {
    choices.forEach((choice) => { choice.value = value; });
    panels.forEach((panel) => { panel.hidden = panel.dataset.arm !== value; });
  };
  choices.forEach((choice) => {
    choice.closest(".choose").hidden = false;
    choice.addEventListener("change", () => show(choice.value));
  });
  if (choices.length) show(choices[0].value);
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = all("details:not([open])");
    folded.forEach((part) => { part.open = true; });
  });
  addEventListener("afterprint", () => folded.forEach((part) => { part.open = false; }));
})();
