"use strict";
// The limits, the fullest first: what is used of each, what is reserved for requests under way, and until when.
{
const WARN = 0.8, CARDS = 200;
const UNITS = { usd: money, tokens: n => count(n, "token"), input_tokens: n => count(n, "input token"),
  output_tokens: n => count(n, "output token"), requests: n => count(n, "request") };

const fullness = ({ used, limit }) => limit ? used / limit : 1;
const filled = share => `${Math.floor(100 * share)} %`; // 100 % is full, and not nearly
const amount = (n, measure) => UNITS[measure](measure === "usd" ? n : Math.round(n));

function until({ per, used, resets_at }) {
  const left = resets_at - Date.now() / 1000;
  if (["minute", "hour"].includes(per)) return used > 0 && left > 0 ? `refills steadily, all of it in ${span(left)}` : "refills steadily";
  return `begins anew ${when(resets_at)}, in ${span(Math.max(left, 0))}`;
}

function meter(entry, colour, words) {
  const share = n => `${100 * Math.min(Math.max(n / (entry.limit || 1), 0), 1)}%`;
  return shape("svg", { class: "full", role: "img", "aria-label": words },
    shape("rect", { class: "track", width: "100%", height: "100%" }),
    shape("rect", { class: `${colour} reserved`, width: share(entry.used + entry.reserved), height: "100%" }),
    shape("rect", { class: colour, width: share(entry.used), height: "100%" }));
}

function card(entry) {
  const { name, each, value, measure, per, limit, used, reserved } = entry;
  const full = fullness(entry), colour = full >= 1 ? "bad" : full >= (entry.warn || WARN) ? "warn" : "good";
  const words = `${amount(used, measure)} of ${amount(limit, measure)} a ${per}`;
  const query = each === "client" ? link("requests", { client: value }) : "";
  return make("article", { class: `card ${colour}`, "data-name": JSON.stringify([name, measure, value]) },
    make("div", { class: "top" }, make("h3", {}, name), make("b", { class: `number ${colour}` }, filled(full))),
    each ? make("div", { class: "words" }, `${each}: `, query ? make("a", { href: query }, value) : value || "(none)") : null,
    meter(entry, colour, `${words}, ${filled(full)}`),
    make("div", { class: "number" }, words, reserved ? `, and ${amount(reserved, measure)} reserved` : ""),
    make("div", { class: "soft" }, until(entry)));
}

views.limits = {
  every: () => 5000,
  async look() {
    const entries = (await ask("/admin/v1/limits")).sort((a, b) => fullness(b) - fullness(a));
    const rest = entries.length - CARDS;
    hold(byId("limits"), [
      ...entries.slice(0, CARDS).map(card),
      entries.length ? null : make("p", { class: "soft" }, "No limit has counted anything yet."),
      rest > 0 ? make("p", { class: "soft" }, `and ${rest.toLocaleString("en")} that are emptier`) : null,
    ].filter(Boolean));
  },
};
}
