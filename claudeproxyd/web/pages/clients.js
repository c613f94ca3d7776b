"use strict";
// Who has requests under way, and who is refused: also above the other views, where it is much.
{
const form = byId("clients-asking");
const MUCH = 10, NAMED = 3, ROWS = 200; // refusals that are worth a notice, notices, clients

const sum = (answers, which) => answers.filter(which).reduce((all, { requests }) => all + requests, 0);
const isRefused = ({ status }) => status >= 400 && status < 500;
const isFailed = ({ status }) => status >= 500;

const kind = ({ status, outcome, requests }) =>
  `${requests.toLocaleString("en")} × ${[status || "left", outcome === "cancelled" ? "" : plain(outcome)].filter(Boolean).join(" ")}`;

function notices({ clients, strangers, minutes }) {
  const hammering = clients.map(({ client, answers }) => ({ client, refused: sum(answers, isRefused) }))
    .filter(({ refused }) => refused >= MUCH).sort((a, b) => b.refused - a.refused);
  const unknown = sum(strangers, isRefused), from = new Set(strangers.map(({ remote }) => remote)).size;
  const within = `in ${count(minutes, "minute")}`;
  notice("clients", [
    ...hammering.slice(0, NAMED).map(({ client, refused }) => ({ colour: "warn", href: "#clients", about: `${client} is refused`,
      text: `${client} is refused: ${count(refused, "request")} ${within}` })),
    ...unknown >= MUCH ? [{ colour: "warn", href: "#clients", about: "Requests come without a key that is known",
      text: `${count(unknown, "request")} without a key that is known ${within}, from ${count(from, "address", "addresses")}` }] : [],
  ]);
}

function draw(told) {
  const clients = told.clients.map(each => ({ ...each, refused: sum(each.answers, isRefused), failed: sum(each.answers, isFailed) }))
    .sort((a, b) => b.refused - a.refused || b.failed - a.failed || b.in_flight - a.in_flight);
  const figure = (n, colour) => make("span", { class: n ? colour : "soft" }, n.toLocaleString("en"));
  hold(byId("clients"), [
    clients.length ? table(`Clients, and what they were answered in ${count(told.minutes, "minute")}`,
      ["Client", "In flight", "Answered", "Refused (4xx)", "Failed (5xx)", "How"],
      clients.slice(0, ROWS).map(({ client, in_flight, answers, refused, failed }) => [
        make("a", { href: link("requests", { client }) }, client), figure(in_flight, ""), figure(sum(answers, () => true), ""),
        figure(refused, "warn"), figure(failed, "bad"),
        [...answers].sort((a, b) => b.requests - a.requests).map(kind).join(" · "),
      ])) : make("p", { class: "soft" }, "No client asks for anything."),
    clients.length > ROWS ? make("p", { class: "soft" }, `and ${clients.length - ROWS} more`) : null,
    told.strangers.length ? table("Requests without a key that is known", ["From", "Status", "Requests", "Why"],
      [...told.strangers].sort((a, b) => b.requests - a.requests).map(({ remote, status, requests, error }) =>
        [remote, String(status || "left"), requests.toLocaleString("en"), error])) : null,
  ].filter(Boolean));
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
