// Leads back to the search with `/`. Shows the parts of a person's page anew when the server sends
// them, and says when it is silent.
"use strict";

const wanted = document.getElementById("wanted");
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || !wanted || event.target.matches("input, textarea")) return;
  // It would be typed into the field.
  event.preventDefault();
  wanted.select();
});

const live = document.getElementById("live");
if (live) {
  const silent = document.getElementById("silent");
  const PATIENCE_MS = 6000;
  let heard = Date.now();
  const events = new EventSource(live.dataset.events);
  events.onmessage = (event) => {
    heard = Date.now();
    silent.hidden = true;
    for (const [id, html] of Object.entries(JSON.parse(event.data))) {
      const part = document.getElementById(`part-${id}`);
      // The same origin has made it, with everything escaped.
      if (part) part.innerHTML = html;
    }
  };
  setInterval(() => { silent.hidden = Date.now() - heard < PATIENCE_MS; }, 1000);
}
