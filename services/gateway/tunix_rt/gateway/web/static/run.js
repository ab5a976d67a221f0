"use strict";
// A run as it goes: server-sent events say what changed; the curves are read again at most every 1.5 s.

const run = document.getElementById("run");
const log = document.getElementById("log");
const MAX_LINES = 2000;
log.scrollTop = log.scrollHeight;

if (run.dataset.live === "yes") {
  const source = new EventSource("/api/" + run.dataset.name + "/watch");
  let lines = [];
  let timer = null;

  const refresh = () => {
    timer ??= setTimeout(() => {
      timer = null;
      charts.draw();
      showFigures();
    }, 1500);
  };

  async function showFigures() {
    const response = await fetch("/api/" + run.dataset.name);
    if (!response.ok) return;
    const metrics = (await response.json()).metrics || [];
    for (const element of document.querySelectorAll("dd[data-metric]")) {
      const summary = metrics.find((entry) => entry.metric === element.dataset.metric);
      if (summary) element.textContent = Number(Number(summary[element.dataset.of] ?? 0).toPrecision(4)).toLocaleString();
    }
  }

  source.addEventListener("points", (event) => {
    showProgress(JSON.parse(event.data).step);
    refresh();
  });

  source.addEventListener("lines", (event) => {
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    lines = lines.concat(JSON.parse(event.data)).slice(-MAX_LINES);
    log.textContent = lines.join("\n");
    document.getElementById("log-note").textContent = "";
    if (atEnd) log.scrollTop = log.scrollHeight;
  });

  source.addEventListener("run", (event) => {
    const status = JSON.parse(event.data);
    const state = status.state || "JOB_STATE_UNSPECIFIED";
    const word = state.replace("JOB_STATE_", "").toLowerCase();
    const pill = document.querySelector("#state .state");
    pill.className = "state " + word;
    pill.textContent = word;
    const bar = document.getElementById("progress");
    if (Number(status.progressTotal)) bar.max = Number(status.progressTotal);
    showProgress(Number(status.progress));
  });

  source.addEventListener("end", () => {
    source.close();
    location.reload(); // the page of a run that has ended has its final figures and evaluations
  });

  function showProgress(step) {
    const bar = document.getElementById("progress");
    if (Number(step) < bar.value) return;
    bar.value = Number(step);
    const total = bar.max > 1 ? " of " + bar.max.toLocaleString() : "";
    document.getElementById("progress-text").textContent = Number(step).toLocaleString() + total + " steps";
  }
}
