"use strict";
// On every page: the services' state, times in local form, and the selection to compare.

const services = document.getElementById("services");

async function showServices() {
  try {
    const status = await (await fetch("/api/status")).json();
    const down = (status.services || []).filter((service) => !service.serving);
    services.className = "services " + (down.length ? "down" : "up");
    services.textContent = down.length ? down.map((s) => s.service).join(", ") + " away" : "all services answer";
    services.title = (status.services || []).map((s) => s.service + ": " + (s.serving ? "serving" : s.reason)).join("\n");
  } catch {
    services.className = "services down";
    services.textContent = "the gateway is away";
  }
}
if (!location.pathname.startsWith("/sign-in")) {
  showServices();
  setInterval(() => document.hidden || showServices(), 15000);
}

function showLocalTimes() {
  for (const element of document.querySelectorAll("time[data-time]")) {
    const seconds = Number(element.dataset.time);
    if (!seconds) continue;
    const date = new Date(seconds * 1000);
    const sameDay = date.toDateString() === new Date().toDateString();
    element.title ||= element.textContent;
    element.textContent = sameDay
      ? date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })
      : date.toLocaleDateString([], { month: "short", day: "numeric", year: date.getFullYear() === new Date().getFullYear() ? undefined : "numeric" });
  }
}
showLocalTimes();

const form = document.getElementById("compare-form");
if (form) {
  const chosen = []; // in the order of the clicks: the first is the baseline
  const bar = document.getElementById("compare-bar");
  const boxes = () => form.querySelectorAll('input[name="subject"]');
  const show = () => {
    if (!bar) return;
    bar.classList.toggle("some", chosen.length > 0);
    const names = chosen.map((name) => name.split("/").filter((_, i) => i % 2).join(" "));
    document.getElementById("compare-count").textContent =
      chosen.length < 2 ? names[0] + " is the baseline. Select another." : names.slice(1).join(", ") + " against " + names[0];
    document.getElementById("compare-go").disabled = chosen.length < 2 || chosen.length > 10;
  };
  form.addEventListener("change", (event) => {
    const { value, checked } = event.target;
    const place = chosen.indexOf(value);
    if (checked && place < 0) chosen.push(value);
    if (!checked && place >= 0) chosen.splice(place, 1);
    for (const box of boxes()) if (box.value === value) box.checked = checked;
    show();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (chosen.length < 2) return;
    location.href = "/compare?" + chosen.map((name) => "subject=" + encodeURIComponent(name)).join("&");
  });
  window.addEventListener("pageshow", () => {
    chosen.length = 0;
    for (const box of boxes()) if (box.checked && !chosen.includes(box.value)) chosen.push(box.value);
    if (chosen.length) show();
  });

  // While a run is queued or running, its row is drawn again every 5 s.
  const table = form.querySelector("table.runs");
  const timer = table?.dataset.live === "yes" && setInterval(async () => {
    if (document.hidden) return;
    const response = await fetch(location.href).catch(() => null);
    if (!response?.ok) return;
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html").querySelector("table.runs");
    if (!fresh) return;
    table.tBodies[0].replaceWith(fresh.tBodies[0]);
    for (const box of boxes()) box.checked = chosen.includes(box.value);
    showLocalTimes();
    if (fresh.dataset.live === "no") clearInterval(timer);
  }, 5000);
}
