"use strict";
// Clients' keys: those of the configuration, and those that are minted, rotated and revoked here. A secret is shown once.
{
const KEYS = "/admin/v1/keys", CARDS = 200, DAY = 86400, SOON = 7 * DAY;
const form = byId("keys-minting"), fields = form.elements;
let all = false;

const at = name => `${KEYS}/${encodeURIComponent(name)}`;
const list = text => text.split(",").map(each => each.trim()).filter(Boolean);
const pairs = labels => Object.entries(labels).map(([label, value]) => `${label}=${value}`);
const isOperator = () => who.role === "operate";
const mints = () => isOperator() || Boolean(who.mint);

// "team=ads, project=x"
function labelsOf(text) {
  return Object.fromEntries(list(text).map(each => {
    const [name, ...value] = each.split("=");
    if (!value.length) throw new Refused(`labels are written name=value, and ${each} is not`);
    return [name.trim(), value.join("=").trim()];
  }));
}

// -- what may be minted

function bounds({ labels, names, models, max_concurrency, longest }) {
  return [`You mint for ${pairs(labels).join(" and ")}`,
    names.includes("*") ? "" : `names as ${names.join(" or ")}`, models.includes("*") ? "" : `models within ${models.join(", ")}`,
    max_concurrency ? `at most ${max_concurrency} at once` : "", longest ? `for at most ${span(longest)}` : ""].filter(Boolean).join("; ");
}

function prepare() {
  const within = isOperator() ? null : who.mint;
  form.hidden = !mints();
  fields.labels.closest("label").hidden = Boolean(within);
  fields.models.placeholder = within?.models.join(", ") ?? "all";
  fields.expires.options[0].text = within?.longest ? "as late as may be" : "never";
  fields.max_concurrency.placeholder = within?.max_concurrency ? `${within.max_concurrency}` : "no limit";
  byId("keys-bounds").textContent = within ? bounds(within) : "";
}

function wanted() {
  const { name, labels, models, expires, max_concurrency } = fields;
  const terms = { name: name.value.trim() };
  if (labels.value) terms.labels = labelsOf(labels.value);
  if (list(models.value).length) terms.models = list(models.value);
  if (expires.value) terms.expires_in = Number(expires.value) * DAY;
  if (max_concurrency.value) terms.max_concurrency = Number(max_concurrency.value);
  return JSON.stringify(terms);
}

// -- what there is

function times({ state, created, expires, revoked, last_used }) {
  return [`minted ${when(created)}`, revoked ? `revoked ${when(revoked)}` : "",
    !revoked && expires ? `${state === "expired" ? "ended" : "ends"} ${when(expires)}` : "",
    last_used ? `last used ${when(last_used)}` : "never used"].filter(Boolean).join(" · ");
}

function card(entry) {
  const { name, source, state, labels, models, max_concurrency, expires, secrets = [] } = entry;
  const isMinted = source === "minted", isActive = state === "active", isOver = ["expired", "revoked"].includes(state);
  const endsSoon = isActive && expires && expires - Date.now() / 1000 < SOON;
  const colour = isActive && !endsSoon ? "good" : isOver ? "" : "warn";
  const press = (does, text) => make("button", { type: "button", "data-key": name, "data-does": does, "aria-label": `${text} ${name}` }, text);
  return make("article", { class: `card ${colour}`, "data-name": `${source} ${name}` },
    make("div", { class: "top" }, make("h3", {}, make("a", { href: link("requests", { client: name }) }, name)),
      make("span", { class: colour }, !isMinted ? "in the configuration" : endsSoon ? "ends soon" : state)),
    make("div", { class: "words" }, [...pairs(labels), models.join(", ") || "no model",
      max_concurrency ? `at most ${max_concurrency} at once` : ""].filter(Boolean).join(" · ")),
    isMinted ? make("div", { class: "soft" }, times(entry)) : null,
    secrets.length > 1 ? make("div", { class: "soft mono" }, secrets.map(({ digest, expires }) =>
      make("div", {}, `${digest}…${expires ? `, until ${when(expires)}` : ""}`))) : null,
    isMinted && !isOver && mints() ? make("div", { class: "foot" },
      make("span", { class: "buttons" }, press("rotate", "Rotate"), press("revoke", "Revoke"))) : null);
}

const rank = ({ source, state }) => source === "file" ? 2 : state === "active" ? 0 : state === "shadowed" ? 1 : 3;

function draw(keys) {
  const shown = [...keys].sort((a, b) => rank(a) - rank(b)).slice(0, all ? keys.length : CARDS);
  hold(byId("keys"), [
    ...shown.map(card),
    keys.length ? null : make("p", { class: "soft" }, "There is no key yet."),
    shown.length < keys.length ? make("p", {}, make("button", { type: "button", "data-does": "all" }, `Show all ${keys.length}`)) : null,
  ].filter(Boolean));
}

// -- what is shown once

function reveal(told) {
  hold(byId("minted"), told ? [
    make("p", {}, `The key of ${told.name}. It is kept nowhere: take it now.`),
    make("pre", { tabindex: "0" }, told.key),
    make("span", { class: "buttons" },
      navigator.clipboard ? make("button", { type: "button", "data-does": "copy" }, "Copy") : null,
      make("button", { type: "button", "data-does": "done" }, "Done")),
  ] : []);
  byId("minted").hidden = !told;
  if (told) byId("minted").focus();
}

async function does(pressed, work) {
  pressed.disabled = true;
  try {
    await work();
    tell("");
  } catch (error) {
    tell(`That did not work: ${error.message}`);
  }
  pressed.disabled = false;
  lookAt("keys");
}

const WORK = {
  async rotate(name) {
    if (confirm(`Give ${name} another key? The one before holds for an hour.`)) reveal(await act(`${at(name)}/rotate`, "{}"));
  },
  async revoke(name) {
    if (confirm(`Revoke the key of ${name}? Whoever uses it is refused from now on.`)) await act(at(name), "{}", "DELETE");
  },
  async copy() { await navigator.clipboard.writeText(byId("minted").querySelector("pre").textContent); },
  async done() { reveal(null); fields.name.focus(); },
  async all() { all = true; },
};

views.keys = {
  every: () => 5000,
  may: ({ role, mint }) => ["read", "operate"].includes(role) || Boolean(mint),
  async look() {
    prepare();
    draw((await ask(KEYS)).keys);
  },
};

byId("view-keys").addEventListener("click", event => {
  const pressed = event.target.closest("button[data-does]");
  if (pressed) does(pressed, () => WORK[pressed.dataset.does](pressed.dataset.key));
});
form.addEventListener("submit", event => {
  event.preventDefault();
  does(form.querySelector("button"), async () => {
    reveal(await act(KEYS, wanted()));
    form.reset();
  });
});
window.addEventListener("hashchange", () => reveal(null)); // whoever leaves has it, or lets it go
byId("key").addEventListener("submit", () => reveal(null));
}
