"use strict";
// The pool as it is now: what is wrong first, for how long and why, who waits, and what can be done about it.
{
let all = false;

const POOL = "/admin/v1/pool";
const SHOWN = 200, FAILURES = 8, RESTS = 4, MODELS = 3;
const SHARED = ["provider", "model_on_provider"];

function rest(cooldown, counting, provider) {
  const what = cooldown.scope === "provider" ? `all of ${provider}`
    : cooldown.scope === "credential" ? "all of it" : cooldown.model;
  return make("div", { class: "rest" },
    make("div", {},
      make("b", { class: "number " + (cooldown.remaining ? "bad" : "warn") },
        cooldown.remaining ? span(cooldown.remaining) : cooldown.trials ? `${cooldown.trials} at a time` : "soon"),
      make("span", { class: "words" }, what + (counting ? ", for count_tokens" : ""))),
    make("div", { class: "words" },
      plain(cooldown.outcome), cooldown.level > 1 ? `, ${cooldown.level} in a row` : "",
      cooldown.reason ? `: “${cooldown.reason}”` : ""));
}

function gate(learned, counting, provider) {
  const what = learned.scope === "provider" ? `all of ${provider}`
    : learned.scope === "credential" ? "all of it" : learned.model;
  return make("div", { class: "rest" },
    make("div", {},
      make("b", { class: learned.state === "down" ? "bad" : "soft" }, learned.told),
      make("span", { class: "words" }, what + (counting ? ", for count_tokens" : ""))),
    make("div", { class: "words" }, plain(learned.outcome), learned.reason ? `: “${learned.reason}”` : ""));
}

function button(action, body, text) {
  return make("button", { type: "button", "data-action": action, "data-body": JSON.stringify(body) }, text);
}

function own(entry, shared) {
  const rests = [[entry.cooldowns, false], [entry.count_tokens.cooldowns, true]];
  return rests.flatMap(([cooldowns, counting]) => cooldowns
    .filter(cooldown => SHARED.includes(cooldown.scope) === shared).map(cooldown => ({ cooldown, counting })));
}

function gates(entry, shared) {
  return [[entry.gates, false], [entry.count_tokens.gates, true]].flatMap(([learned, counting]) => learned
    .filter(each => SHARED.includes(each.scope) === shared).map(each => gate(each, counting, entry.provider)))
    .slice(0, RESTS);
}

function card(entry) {
  const { provider, credential } = entry;
  const rests = own(entry, false).sort((a, b) => b.cooldown.remaining - a.cooldown.remaining);
  const shared = own(entry, true);
  const out = ["cooling", "down", "disabled"].includes(entry.state);
  const badge = out || entry.state === "trial" || !entry.trouble ? entry.state
    : rests.length ? "cooling in part" : "failing in part";
  const colour = out ? "bad" : badge === "ready" || badge === "busy" ? "good" : "warn";
  const limit = entry.max_concurrency ? ` of ${entry.max_concurrency}` : "";
  const name = `${provider}/${credential}`;
  return make("article", { class: `card ${colour}`, "data-name": name },
    make("div", { class: "top" }, make("h3", {}, name), make("span", { class: colour }, badge)),
    ...rests.slice(0, RESTS).map(({ cooldown, counting }) => rest(cooldown, counting, provider)),
    ...gates(entry, false),
    rests.length > RESTS ? make("p", { class: "soft" }, `and ${rests.length - RESTS} more`) : null,
    shared.length ? make("p", { class: "soft" }, `held back with all of ${provider}, above`) : null,
    make("div", { class: "foot" },
      make("span", { class: "soft number" }, [`${entry.in_flight}${limit} in flight`, outcomes(entry.outcomes)].filter(Boolean).join(" · ")),
      make("span", { class: "buttons" },
        rests.length || entry.gates.length ? button("clear", { provider, credential }, "Clear") : null,
        entry.state === "disabled" ? button("enable", { provider, credential }, "Enable")
          : button("disable", { provider, credential }, "Disable"))));
}

function providers(entries) {
  const first = new Map(entries.map(entry => [entry.provider, entry]).reverse());
  return [...first].reverse().filter(([, entry]) => own(entry, true).length || gates(entry, true).length)
    .map(([provider, entry]) => make("article", { class: "card bad", "data-name": provider },
      make("div", { class: "top" }, make("h3", {}, provider),
        make("span", { class: "bad" }, own(entry, true).length ? "cooling" : "failing")),
      ...own(entry, true).map(({ cooldown, counting }) => rest(cooldown, counting, provider)),
      ...gates(entry, true),
      make("div", { class: "foot" },
        make("span", { class: "buttons" }, button("clear", { provider }, `Clear all of ${provider}`)))));
}

const isOut = entry => ["cooling", "down", "disabled"].includes(entry.state);

function headline(pool, held) {
  const { total, credentials, gauges, unserved } = pool;
  const out = credentials.filter(isOut).length;
  const some = held.length === credentials.length && held.length < total ? " or more" : "";
  const [colour, text] = total === 0 ? ["bad", "There is no credential"]
    : unserved.length ? ["bad", `Nobody serves ${enumerated(unserved.map(({ model }) => model), MODELS)}`]
    : out === total ? ["bad", `Nobody is served: ${count(total, "credential is", "credentials are")} out`]
    : held.length ? ["warn", `${held.length}${some} of ${count(total, "credential")} held back`]
    : ["good", `${total === 1 ? "The credential works" : `All ${count(total, "credential")} work`}`];
  const waits = gauges.waiting ? `, ${count(gauges.waiting, "request waits", "requests wait")}` : "";
  become(byId("headline"), make("h1", { id: "headline", class: colour }, text + waits));
  sum_up(text + waits, colour === "good");
  announce("pool", text);
}

function missing({ model, reason, ready_in, seconds, refused }) {
  return make("div", {}, make("strong", {}, model),
    refused ? make("span", { class: "number bad" }, `${count(refused, "request")} refused`) : null,
    make("span", { class: "words" }, reason ? plain(reason) : "the next request may try"),
    make("span", { class: "soft number" }, [seconds ? `for ${span(seconds)}` : "",
      ready_in === null ? "" : `next try in ${span(ready_in)}`].filter(Boolean).join(", ")));
}

function figures(pool) {
  const done = {};
  for (const { outcomes } of pool.credentials)
    for (const [outcome, n] of Object.entries(outcomes)) done[outcome] = (done[outcome] ?? 0) + n;
  const figure = (n, text) => make("li", {}, make("b", { class: "number" }, n.toLocaleString("en")), text);
  const { gauges } = pool;
  hold(byId("figures"), [
    figure(gauges.in_flight, "in flight"), figure(gauges.waiting, "waiting"),
    figure(gauges.cooling, gauges.cooling === 1 ? "cooldown" : "cooldowns"),
    make("li", { class: "soft" }, pool.credentials.length < pool.total ? "attempts of those shown:" : "attempts so far:"),
    ...Object.entries(done).sort((a, b) => b[1] - a[1]).map(([outcome, n]) => figure(n, plain(outcome))),
  ]);
}

function draw(pool) {
  if (document.querySelector("button:active")) return;
  const entries = pool.credentials;
  const held = entries.filter(entry => entry.trouble), well = entries.filter(entry => !entry.trouble);
  headline(pool, held);
  figures(pool);
  const alone = held.filter(entry => entry.state === "disabled" || own(entry, false).length || gates(entry, false).length);
  const along = held.filter(entry => !alone.includes(entry));
  show("held", [...providers(held), ...alone.map(card), ...along.map(card)]);
  show("unserved", pool.unserved.map(missing));
  show("queue", pool.queue.map(line => make("div", {},
    make("strong", {}, line.client), make("span", { class: "number" }, count(line.requests, "request")),
    make("span", { class: "words" }, line.routes.join(", ") + (line.count_tokens ? " (count_tokens)" : "")),
    make("span", { class: "soft number" }, `for ${span(line.longest)}, at most ${span(line.patience)} more`))));
  show("failures", entries.filter(entry => entry.last_failure)
    .sort((a, b) => a.last_failure.seconds_ago - b.last_failure.seconds_ago).slice(0, FAILURES)
    .map(({ provider, credential, last_failure: failure }) => make("div", {},
      make("span", { class: "soft number" }, `${span(failure.seconds_ago)} ago`),
      make("strong", {}, `${provider}/${credential}`),
      make("span", { class: "words" }, plain(failure.outcome) + (failure.reason ? `: “${failure.reason}”` : "")))));
  show("well", well.map(card));
  byId("more").hidden = entries.length === pool.total;
  byId("more").firstElementChild.textContent = `Show all ${pool.total.toLocaleString("en")}`;
}

views.pool = {
  always: true,
  every: shown => shown ? 1000 : 5000,
  async look() { draw(await ask(all ? POOL : `${POOL}?limit=${SHOWN}`)); },
};

async function press(pressed) {
  const { action, body } = pressed.dataset;
  const { provider, credential } = JSON.parse(body);
  if (action === "disable" && !confirm(`Take ${provider}/${credential} out of service? What it has under way is finished.`)) return;
  pressed.disabled = true;
  try {
    await act(`${POOL}/${action}`, body);
    tell("");
  } catch (error) {
    tell(`That did not work: ${error.message}`);
  }
  pressed.disabled = false;
  lookAt("pool");
}

document.addEventListener("click", event => {
  const pressed = event.target.closest("button[data-action]");
  if (pressed) press(pressed);
});
byId("more").addEventListener("click", () => { all = true; lookAt("pool"); });
}
