/**
 * The status page's own refreshing, run by the browser. The page is fetched again and its parts are exchanged, so
 * that there is one rendering, the server's. What the script adds: rates, from what changed between two looks, and a
 * plain word when the agent no longer answers, since a page that looks well and is an hour old is worse than none.
 */
export const statusScript = `
"use strict";
const everyMs = 2000, spanMs = 20000, timeoutMs = 6000;
const seen = new Map();
let answeredAt = performance.now();

function rates() {
  const now = performance.now();
  for (const place of document.querySelectorAll("[data-count]")) {
    const samples = (seen.get(place.id) ?? []).filter((sample) => now - sample.at < spanMs);
    const value = Number(place.dataset.count);
    const first = samples[0];
    samples.push({ at: now, value });
    seen.set(place.id, samples);
    if (first === undefined || first.value === value) continue;
    const rate = ((value - first.value) / (now - first.at)) * 1000;
    const size = Math.abs(rate);
    if (size < 0.05) continue;
    const digits = size >= 10 ? Math.round(size).toLocaleString("en") : size.toFixed(1);
    const small = document.createElement("small");
    small.textContent = " " + (rate < 0 ? "\\u2212" : "+") + digits + "/s";
    place.append(small);
  }
}

async function refresh() {
  if (!document.hidden) {
    try {
      const response = await fetch("/", { signal: AbortSignal.timeout(timeoutMs) });
      const text = await response.text();
      const fresh = new DOMParser().parseFromString(text, "text/html");
      const main = fresh.querySelector("main");
      if (main === null) throw new Error("not the status page");
      document.querySelector("main").replaceWith(main);
      document.querySelector("header").replaceWith(fresh.querySelector("header"));
      document.querySelector("link[rel=icon]").href = fresh.querySelector("link[rel=icon]").href;
      document.title = fresh.title;
      document.body.classList.remove("is-quiet");
      answeredAt = performance.now();
      rates();
    } catch {
      const seconds = Math.round((performance.now() - answeredAt) / 1000);
      document.querySelector(".quiet").textContent =
        "No answer from the agent for " + seconds + " s. What you see below is old.";
      document.body.classList.add("is-quiet");
    }
  }
  setTimeout(refresh, everyMs);
}
rates();
setTimeout(refresh, everyMs);
`;
