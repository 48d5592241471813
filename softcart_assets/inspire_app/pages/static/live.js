// Shows the totals anew whenever they change. Without it, the page is as good as when it was loaded.
const live = document.getElementById("live");
new EventSource(live.dataset.events).onmessage = (event) => { live.innerHTML = JSON.parse(event.data); };
