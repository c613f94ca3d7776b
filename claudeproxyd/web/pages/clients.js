"use strict";
// Who has requests under way, and who is refused: also above the other views, where it is much.
{
const form = byId("clients-asking");
const MUCH = 10, NAMED = 3, ROWS = 200; // refusals that are worth a notice, notices, clients

const sum = (answers, which) => answers.filter(which).reduce((all, { requests }) => all + requests, 0);
const WHY = { client_limit: "over its limit", budget: "over its budget", bad_request: "bad requests" };
const isRefused = ({ refusal }) => refusal !== "";
// By its own doing: that nobody serves it is told elsewhere.
const isToBlame = ({ refusal }) => refusal in WHY || refusal === "unknown_key";
const isFailed = ({ status, refusal }) => status >= 500 && !refusal;

const kind = ({ status, outcome, requests }) =>
  `${requests.toLocaleString("en")} × ${[status || "left", outcome === "cancelled" ? "" : plain(outcome)].filter(Boolean).join(" ")}`;

const whys = answers => enumerated([...new Set(answers.map(({ refusal }) => WHY[refusal] ?? plain(refusal)))], 3);

function notices({ clients, strangers, minutes }) {
  const hammering = clients.map(({ client, answers }) => ({ client, answers: answers.filter(isToBlame) }))
    .map(each => ({ ...each, refused: sum(each.answers, isRefused) }))
    .filter(({ refused }) => refused >= MUCH).sort((a, b) => b.refused - a.refused);
  const unknown = sum(strangers, isToBlame), from = new Set(strangers.map(({ remote }) => remote)).size;
  const within = `in ${count(minutes, "minute")}`;
  notice("clients", [
    ...hammering.slice(0, NAMED).map(({ client, refused, answers }) => ({ colour: "warn", href: "#clients",
      about: `${client} is refused`,
      text: `${client} is refused: ${count(refused, "request")} ${within}, ${whys(answers)}` })),
    ...unknown >= MUCH ? [{ colour: "warn", href: "#clients", about: "Requests come without a key that is known",
      text: `${count(unknown, "request")} without a key that is known ${within}, from ${count(from, "address", "addresses")}` }] : [],
  ]);
}

function row({ client, in_flight, answers, refused, failed }) {
  const figure = (n, word, colour) => n ? make("span", { class: `number ${colour}` }, `${n.toLocaleString("en")} ${word}`) : null;
  return make("div", { "data-name": client },
    make("strong", {}, make("a", { href: link("requests", { client }) }, client)),
    figure(in_flight, "in flight", ""), figure(refused, "refused", "warn"), figure(failed, "failed", "bad"),
    make("span", { class: "words soft number" }, [...answers].sort((a, b) => b.requests - a.requests).map(kind).join(" · ")));
}

function stranger({ remote, status, requests, error }) {
  return make("div", {}, make("strong", {}, remote),
    make("span", { class: "number warn" }, `${requests.toLocaleString("en")} × ${status || "left"}`),
    make("span", { class: "words soft" }, error));
}

function draw({ clients, strangers }) {
  const counted = clients.map(each => ({ ...each, refused: sum(each.answers, isRefused), failed: sum(each.answers, isFailed) }))
    .sort((a, b) => b.refused - a.refused || b.failed - a.failed || b.in_flight - a.in_flight);
  const rest = counted.length - ROWS;
  hold(byId("clients"), [
    ...counted.slice(0, ROWS).map(row),
    counted.length ? null : make("p", { class: "soft" }, "No client asks for anything."),
    rest > 0 ? make("p", { class: "soft" }, `and ${rest.toLocaleString("en")} more`) : null,
  ].filter(Boolean));
  show("strangers", [...strangers].sort((a, b) => b.requests - a.requests).map(stranger));
}

views.clients = {
  always: true,
  every: () => 5000,
  open(query) { form.elements.minutes.value = ["1", "15"].find(each => each === query.get("minutes")) ?? "5"; },
  async look() {
    const told = await ask(`/admin/v1/clients?minutes=${form.elements.minutes.value}`);
    notices(told);
    draw(told);
  },
};

form.addEventListener("submit", event => event.preventDefault());
form.addEventListener("change", () => { location.hash = link("clients", { minutes: form.elements.minutes.value }); });
}
