// One clock for player, frames and cursor. The video's own clock leads where it plays; else the page keeps the time.
(() => {
  "use strict";
  const find = (selector) => document.querySelector(selector);
  const all = (selector) => Array.from(document.querySelectorAll(selector));
  const line = find(".timeline");
  const watch = find("#watch");
  if (!line) return;
  const span = Number(line.dataset.span);
  const player = find(".player");
  const still = find(".still");
  const button = find(".play");
  const cursor = find(".cursor");
  const readout = find(".readout");
  const choices = all('.classes input');
  const frames = all(".strip img").map((picture) => ({ picture, time: Number(picture.dataset.time) }));
  const JUST_INSIDE = 0.001; // seconds; a player asked for the very start of a frame may show the one before it

  // The table of clips is the page's only copy of the numbers.
  const table = find("#clips table");
  const headers = table ? Array.from(table.tHead.rows[0].cells, (cell) => cell.textContent) : [];
  const clips = table ? Array.from(table.tBodies[0].rows, (row) => Array.from(row.cells, (cell) => cell.textContent)) : [];
  const [FROM, TO] = [1, 2];
  const starts = clips.map((clip) => Number(clip[FROM]));
  const firstClass = headers.length - choices.length;
  const spans = all(".predicted i").map((bar) => ({ bar, of: bar.dataset.of, left: parseFloat(bar.style.left), length: parseFloat(bar.style.width) }));

  let time = 0;
  let chosen = 0;
  let asked = 0; // what the player was last asked for
  let ticking = 0; // when the page's own clock was last read; 0 while it stands

  const usable = () => player && !watch.classList.contains("unplayable");
  const clipAt = (moment) => {
    let low = 0;
    let high = starts.length;
    while (low < high) { // the last clip that has begun
      const middle = (low + high) >> 1;
      if (starts[middle] <= moment + 1e-6) low = middle + 1; else high = middle;
    }
    return Math.max(0, low - 1);
  };

  const words = () => {
    if (!clips.length) return `${time.toFixed(2)} s`;
    const number = clipAt(time);
    const clip = clips[number];
    const said = [`clip ${number + 1} of ${clips.length}`, `${Number(clip[FROM]).toFixed(2)} to ${Number(clip[TO]).toFixed(2)} s`];
    if (choices.length) said.push(`evidence of ${choices[chosen].dataset.name} ${clip[firstClass + chosen]}`);
    for (let place = TO + 1; place < firstClass; place += 1) said.push(`${headers[place]} ${clip[place]}`);
    const at = 100 * time / span;
    if (spans.some((one) => one.of === String(chosen) && one.left <= at && at < one.left + one.length)) said.push("in a predicted interval");
    return said.join(", ");
  };

  const draw = () => {
    cursor.style.left = `${Math.min(100, 100 * time / span)}%`;
    const said = words();
    line.setAttribute("aria-valuenow", time.toFixed(3));
    line.setAttribute("aria-valuetext", said);
    if (readout) readout.textContent = said;
    if (still && frames.length) {
      const nearest = frames.reduce((a, b) => (Math.abs(b.time - time) < Math.abs(a.time - time) ? b : a));
      if (still.src !== nearest.picture.src) still.src = nearest.picture.src;
    }
  };

  const seek = (moment) => {
    time = Math.max(0, Math.min(span, moment));
    if (usable() && player.readyState > 0) {
      asked = Math.min(time + JUST_INSIDE, player.duration || span);
      player.currentTime = asked;
    }
    draw();
  };

  const step = (by) => {
    if (!clips.length) return seek(time + by);
    const next = clipAt(time) + by;
    return seek(starts[Math.max(0, Math.min(starts.length - 1, next))]);
  };

  const choose = (number) => {
    if (number < 0 || number >= choices.length) return;
    chosen = number;
    choices[number].checked = true;
    all(".evidence path").forEach((path) => {
      path.classList.toggle("on", path.dataset.class === String(number));
      if (path.dataset.class === String(number)) path.parentNode.insertBefore(path, path.parentNode.querySelector(".zero"));
    });
    all(".predicted i").forEach((bar) => { bar.hidden = bar.dataset.of !== String(number); });
    all(".annotated i").forEach((bar) => bar.classList.toggle("on", bar.dataset.of === String(number)));
    all(".chosen").forEach((name) => { name.textContent = choices[number].dataset.name; });
    draw();
  };

  // The clock.
  const playing = () => (usable() ? !player.paused && !player.ended : ticking > 0);
  const tick = (now) => {
    if (!playing()) return;
    if (usable()) {
      time = Math.min(player.currentTime, span);
    } else {
      time += (now - ticking) / 1000;
      ticking = now;
      if (time >= span) { time = span; pause(); }
    }
    draw();
    requestAnimationFrame(tick);
  };
  const label = () => { if (button) button.textContent = playing() ? "Pause" : "Play"; };
  const pause = () => {
    if (usable()) player.pause();
    ticking = 0;
    label();
  };
  const play = () => {
    if (usable()) {
      player.play().catch(() => {});
      return;
    }
    if (time >= span) time = 0;
    ticking = performance.now();
    label();
    requestAnimationFrame(tick);
  };
  const toggle = () => (playing() ? pause() : play());

  const giveUp = () => {
    if (!usable()) return;
    watch.classList.add("unplayable");
    find(".unplayed").hidden = false;
    button.hidden = false;
    draw();
  };
  if (player) {
    player.addEventListener("error", giveUp);
    player.addEventListener("loadedmetadata", () => (player.videoWidth ? time > 0 && seek(time) : giveUp()));
    player.addEventListener("play", () => requestAnimationFrame(tick));
    player.addEventListener("seeked", () => { // by the player's own controls
      if (Math.abs(player.currentTime - asked) > 2 * JUST_INSIDE && !playing()) { time = Math.min(player.currentTime, span); draw(); }
    });
    if (player.error) giveUp();
  } else if (still && clips.length) {
    button.hidden = false;
  }
  if (button) button.addEventListener("click", toggle);

  // Pointer and keys.
  const at = (event) => {
    const box = line.getBoundingClientRect();
    return span * Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
  };
  let dragging = false;
  line.addEventListener("pointerdown", (event) => {
    if (event.button > 0) return;
    dragging = true;
    line.setPointerCapture(event.pointerId);
    seek(at(event));
  });
  line.addEventListener("pointermove", (event) => { if (dragging) seek(at(event)); });
  ["pointerup", "pointercancel"].forEach((name) => line.addEventListener(name, () => { dragging = false; }));

  const keys = {
    ArrowLeft: () => step(-1), ArrowDown: () => step(-1), ArrowRight: () => step(1), ArrowUp: () => step(1),
    PageUp: () => step(10), PageDown: () => step(-10), Home: () => seek(0),
    End: () => seek(clips.length ? starts[starts.length - 1] : span), " ": toggle,
  };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const digit = /^[1-9]$/.test(event.key) && watch.contains(event.target);
    const loose = event.target === document.body && /^Arrow(Left|Right)$/.test(event.key); // nothing else wants them
    if (!digit && !loose && !(event.target === line && Object.hasOwn(keys, event.key))) return;
    if (digit) choose(Number(event.key) - 1); else keys[event.key]();
    event.preventDefault();
  });
  choices.forEach((choice, number) => choice.addEventListener("change", () => choose(number)));

  const follow = () => {
    const found = /^#t=([\d.]+)$/.exec(location.hash);
    if (found) seek(Number(found[1]));
  };
  addEventListener("hashchange", () => {
    follow();
    watch.scrollIntoView({ block: "nearest" });
  });

  Object.entries({ role: "slider", tabindex: "0", "aria-label": "Time in the video", "aria-valuemin": "0", "aria-valuemax": span.toFixed(3) })
    .forEach(([name, value]) => line.setAttribute(name, value));
  cursor.hidden = false;
  all(".readout, .keys").forEach((part) => { part.hidden = false; });
  choose(Math.max(0, choices.findIndex((choice) => choice.checked)));
  draw();
  follow();
})();
