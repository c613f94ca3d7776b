"use strict";
// The last requests, and what happened to each attempt.
{
const form = byId("requests-asking");
const FIELDS = ["request_id", "session", "client"];
const SOME = 200, MOST = 1000; // attempts

const total = (attempts, name) => attempts.reduce((sum, each) => sum + (each[name] ?? 0), 0);
const tokens = attempt => ["input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens"]
  .reduce((sum, name) => sum + (attempt[name] ?? 0), 0);
const figure = n => n === null ? "–" : n.toLocaleString("en");

function cost(attempts) {
  const unpriced = attempts.some(each => each.usd === null && tokens(each));
  const usd = total(attempts, "usd");
  return unpriced ? usd ? `${money(usd)} + unpriced` : "unpriced" : tokens(attempts[0]) || usd || attempts.some(tokens) ? money(usd) : "–";
}

function input(attempts) {
  const [fresh, read, written] = ["input_tokens", "cache_read_tokens", "cache_write_tokens"].map(name => total(attempts, name));
  const cached = [read ? `${short(read)} from caches` : "", written ? `${short(written)} into caches` : ""].filter(Boolean);
  return `${short(fresh + read + written)} tokens in${cached.length ? ` (${cached.join(", ")})` : ""}`;
}

const seconds = duration => `${duration.toLocaleString("en", { maximumFractionDigits: duration < 10 ? 2 : 0 })} s`;

function attemptsOf({ request_id, attempts }) {
  return table(`Attempts of ${request_id}`,
    ["Attempt", "Outcome", "Status", "Stop reason", "Input", "Cache read", "Cache written", "Output", "Cost", "Duration", "Upstream's id"],
    attempts.map(each => [`${each.attempt}: ${each.provider}/${each.credential}, ${each.model_served}`,
      make("span", { class: each.outcome === "ok" ? "good" : "bad" }, plain(each.outcome)), String(each.status || "–"),
      each.stop_reason ?? "–", figure(each.input_tokens), figure(each.cache_read_tokens), figure(each.cache_write_tokens),
      figure(each.output_tokens) + (each.estimated ? " (estimated)" : ""), cost([each]), seconds(each.duration), each.upstream_request_id || "–"]));
}

function row(request) {
  const { request_id, client, session, model, operation, labels, attempts, outcome, status, time } = request;
  const well = outcome === "ok", colour = !well ? "bad" : attempts.length > 1 ? "warn" : "good";
  const search = (name, value) => make("a", { href: link("requests", { [name]: value }) }, value);
  return make("article", { class: "request", "data-name": request_id },
    make("div", { class: "top" },
      make("strong", { class: colour }, plain(outcome) + (attempts.length > 1 ? `, ${attempts.length} attempts` : "")),
      make("span", { class: "soft number" }, when(time))),
    make("div", { class: "words" }, search("client", client), ` · ${model || "unknown model"}`, operation === "messages" ? "" : ` · ${operation}`,
      ...Object.entries(labels).map(([name, value]) => ` · ${name}=${value}`)),
    make("div", { class: "number" }, attempts.length ? [input(attempts), `${short(total(attempts, "output_tokens"))} out`,
      cost(attempts), seconds(total(attempts, "duration"))].join(" · ") : `${status ? `answered with ${status}` : "left"}, no attempt was made`),
    make("div", { class: "mono" }, search("request_id", request_id), session ? [" · session ", search("session", session)] : null),
    attempts.length ? make("details", {}, make("summary", {}, count(attempts.length, "attempt")), attemptsOf(request)) : null);
}

function wanted(query) {
  return Object.fromEntries(FIELDS.map(name => [name, query.get(name)?.trim() ?? ""]).filter(([, value]) => value));
}

views.requests = {
  every: () => 5000,
  open(query) {
    for (const name of FIELDS) form.elements[name].value = query.get(name) ?? "";
  },
  async look(query) {
    const limit = query.get("limit") === String(MOST) ? MOST : SOME;
    const found = await ask(`/admin/v1/requests?${new URLSearchParams({ ...wanted(query), limit })}`);
    const seen = found.reduce((sum, { attempts }) => sum + (attempts.length || 1), 0);
    hold(byId("requests"), [
      ...found.map(row),
      found.length ? null : make("p", { class: "soft" }, "There is no such request."),
      seen === limit && limit < MOST ? make("p", {}, make("a", { href: link("requests", { ...wanted(query), limit: String(MOST) }) }, "Show more")) : null,
    ].filter(Boolean));
  },
};

form.addEventListener("submit", event => {
  event.preventDefault();
  location.hash = link("requests", Object.fromEntries(new FormData(form)));
});
form.addEventListener("reset", () => { location.hash = "#requests"; });
}
