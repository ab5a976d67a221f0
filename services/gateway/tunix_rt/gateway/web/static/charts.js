"use strict";
// Draws the curves of runs. One request reads all runs, so they share one grid of steps.

const charts = (() => {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const label = (run) => run.split("/").pop();
  const MAX_POINTS = 1000;

  function layout(several) {
    const axis = { gridcolor: colour("--line"), linecolor: colour("--line"), zeroline: false, automargin: true, tickfont: { size: 11 }, exponentformat: "e", minexponent: 5, separatethousands: true };
    return {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, sans-serif", size: 12, color: colour("--quiet") },
      margin: { l: 48, r: 12, t: 8, b: 36 },
      showlegend: several,
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
      hovermode: "x unified",
      hoverlabel: { bgcolor: colour("--card"), bordercolor: colour("--line"), font: { color: colour("--ink"), size: 12 } },
      xaxis: { ...axis, title: { text: "step", standoff: 6 }, rangemode: "tozero" },
      yaxis: axis,
    };
  }

  function trace(curve, place, several) {
    const values = (curve.values || []).map(Number); // NaN and Infinity come as text
    const validation = curve.metric.startsWith("validation/");
    const metric = curve.metric.split("/")[0];
    return {
      x: (curve.steps || []).map(Number),
      y: values.map((value) => (Number.isFinite(value) ? value : null)),
      name: several ? label(curve.run) + (validation ? ", validation" : "") : validation ? "validation" : metric === "train" ? "training" : metric,
      mode: validation && values.length < 60 ? "lines+markers" : "lines",
      line: { color: colour("--c" + (several ? place % 10 : validation ? 1 : 0)), width: validation ? 2 : 1.6, dash: validation ? "dash" : "solid" },
      marker: { size: 6 },
      connectgaps: false,
    };
  }

  async function read(runs, metrics) {
    const query = new URLSearchParams();
    runs.forEach((run) => query.append("run", run));
    metrics.forEach((metric) => query.append("metric", metric));
    query.set("max_points", MAX_POINTS);
    const response = await fetch("/api/curves?" + query);
    if (!response.ok) throw new Error((await response.json()).message || response.statusText);
    return (await response.json()).curves || [];
  }

  function note(element, curves) {
    const kept = curves.reduce((sum, curve) => sum + (curve.steps || []).length, 0);
    const all = curves.reduce((sum, curve) => sum + Number(curve.totalCount || 0), 0);
    const caption = element.parentElement.querySelector("figcaption");
    let span = caption.querySelector(".count");
    if (!span) {
      span = document.createElement("span");
      span.className = "count";
      caption.append(span);
    }
    span.textContent = kept < all ? `${kept.toLocaleString()} of ${all.toLocaleString()} points` : `${all.toLocaleString()} points`;
  }

  function drawOne(element, curves, places, several) {
    const metrics = element.dataset.metrics.split(" ");
    const own = curves.filter((curve) => metrics.includes(curve.metric));
    if (!own.length) {
      if (!element.data) element.innerHTML = '<div class="chart-empty">no points yet</div>';
      if (element.closest('[data-live="no"]')) element.parentElement.hidden = true;
      return;
    }
    if (!element.data) element.textContent = "";
    note(element, own);
    const traces = own.map((curve) => trace(curve, places.indexOf(curve.run), several));
    const options = { displayModeBar: false, responsive: true, doubleClick: "reset" };
    Plotly.react(element, traces, layout(traces.length > 1), options);
    element.dataset.drawn = traces.length;
  }

  async function draw() {
    for (const group of document.querySelectorAll(".charts")) {
      const runs = group.dataset.runs.split(" ").filter(Boolean);
      const places = (group.dataset.subjects || group.dataset.runs).split(" ");
      const elements = [...group.querySelectorAll(".chart")];
      const metrics = [...new Set(elements.flatMap((element) => element.dataset.metrics.split(" ")))];
      try {
        const curves = await read(runs, metrics);
        for (const element of elements) drawOne(element, curves, places, places.length > 1);
      } catch (error) {
        for (const element of elements) if (!element.data) element.textContent = "The curves cannot be read: " + error.message;
      }
    }
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  return { draw };
})();

charts.draw();
