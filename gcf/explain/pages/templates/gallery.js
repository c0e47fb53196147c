// Filters the gallery by text and by class.
(() => {
  "use strict";
  const form = document.querySelector(".filter");
  const [text, choice, count] = ["#text", "#class", "#count"].map((id) => form.querySelector(id));
  const cards = Array.from(document.querySelectorAll(".card"), (card) => ({
    card,
    said: card.textContent.toLowerCase(),
    classes: card.dataset.classes.split(" "),
  }));
  const filter = () => {
    const wanted = text.value.toLowerCase().trim();
    let shown = 0;
    cards.forEach(({ card, said, classes }) => {
      const fits = said.includes(wanted) && (choice.value === "" || classes.includes(choice.value));
      card.hidden = !fits;
      shown += fits;
    });
    count.textContent = shown === cards.length ? "" : `${shown} of ${cards.length} videos`;
    document.querySelector(".none").hidden = shown > 0 || cards.length === 0;
  };
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  text.addEventListener("input", filter);
  choice.addEventListener("change", filter);
  filter(); // a browser that goes back keeps what was typed
})();
