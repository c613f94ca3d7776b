"use strict";
// Spend and tokens over time, by whatever is asked for.
{
const form = byId("usage-asking");
const USAGE = "/admin/v1/usage";
const DAY = 86400000, MOST_DAYS = 400, ROWS = 100;
const MOST_ROWS = 20000; // of a picture: one of more groups and days than that is not stacked
const BY = { client: "Client", model: "Model asked for", model_served: "Model served", provider: "Provider", credential: "Credential" };
const FIGURES = ["usd", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "unpriced_tokens",
  "estimated_tokens", "requests", "attempts"];
let last = null, everything = false;

const dateOf = time => new Date(time).toISOString().slice(0, 10);

function asked(query) {
  const ranges = [...form.elements.range.options].map(option => option.value);
  const range = ranges.find(each => each === query.get("range")) ?? (query.get("from") ? "" : "30");
  const today = dateOf(Date.now());
  const from = range === "month" ? `${today.slice(0, 8)}01`
    : range ? dateOf(Date.now() - (Number(range) - 1) * DAY) : query.get("from");
  return { range, from, to: range ? today : query.get("to") || today, by: query.get("by") || "client" };
}

function daysOf({ from, to }) {
  const first = Date.parse(from), end = Date.parse(to);
  if (!(first <= end)) throw new Refused("The first day has to be before the last.");
  if (end - first > MOST_DAYS * DAY) throw new Refused(`At most ${MOST_DAYS} days can be drawn.`);
  return Array.from({ length: Math.round((end - first) / DAY) + 1 }, (_, n) => dateOf(first + n * DAY));
}

// -- adding up

const nothing = () => Object.fromEntries(FIGURES.map(name => [name, 0]));
const inputOf = sums => sums.input_tokens + sums.cache_read_tokens + sums.cache_write_tokens;
const tokensOf = sums => inputOf(sums) + sums.output_tokens;
const cachedOf = sums => inputOf(sums) ? sums.cache_read_tokens / inputOf(sums) : 0;

function add(sums, row) {
  for (const name of FIGURES) sums[name] += row[name];
}

// *sums*: a row for each group; *rows*: one for each day and group, or for each day alone.
function addUp({ sums, rows, days, question: { by } }) {
  const place = new Map(days.map((day, n) => [day, n]));
  const total = nothing(), daily = days.map(nothing);
  const groups = new Map(sums.map(row => [row[by], { name: row[by], sums: row, daily: new Map() }]));
  for (const row of sums) add(total, row);
  for (const row of rows) {
    const day = place.get(row.day);
    if (day === undefined) continue;
    add(daily[day], row);
    groups.get(row[by])?.daily.set(day, row);
  }
  const ordered = [...groups.values()].sort((a, b) => b.sums.usd - a.sums.usd || tokensOf(b.sums) - tokensOf(a.sums));
  return { total, daily, groups: ordered };
}

// The first few groups, and all others as one; or all as one, where nobody asked for each.
function seriesOf({ groups, daily }, { days, stacked }, figure) {
  if (!stacked) return [{ name: "All", colour: 0, values: daily.map(figure) }];
  const own = groups.length > SERIES ? SERIES - 1 : groups.length;
  const values = some => days.map((_, day) =>
    some.reduce((sum, { daily }) => sum + (daily.has(day) ? figure(daily.get(day)) : 0), 0));
  const series = groups.slice(0, own).map((group, colour) => ({ name: group.name || "(none)", colour, values: values([group]) }));
  const rest = groups.slice(own);
  return rest.length ? [...series, { name: `${rest.length} others`, colour: SERIES - 1, values: values(rest) }] : series;
}

// -- drawing

function spent(sums) {
  if (!sums.unpriced_tokens) return money(sums.usd);
  return sums.usd ? `${money(sums.usd)} + unpriced` : "unpriced";
}

function csv(question, by) {
  const query = new URLSearchParams({ from: question.from, to: question.to, by, format: "csv" });
  return make("a", { class: "csv", href: `${USAGE}?${query}`, download: `usage-by-${by.replaceAll(/[^a-z_]+/gi, "-")}.csv` },
    `CSV by ${by.replace(",", " and ")}`);
}

function picture(question, { title, days, series, format, axis, marks, cell = format, by }) {
  const caption = `${title}, ${days[0]} to ${days.at(-1)}`;
  const width = Math.max(byId("usage").clientWidth - 34, 200);
  const several = series.length > 1;
  return make("figure", { "data-name": title },
    make("figcaption", {}, title),
    bars({ caption, days, series, format, axis, marks, width }),
    several ? legend(series) : null,
    Object.keys(marks ?? {}).length ? make("p", { class: "warn" }, "Days with a mark below have tokens without a price, which are in no sum.") : null,
    make("div", { class: "behind" }, csv(question, by),
      make("details", {}, make("summary", {}, "As a table"),
        table(caption, ["Day", ...series.map(({ name }) => name), ...several ? ["All"] : []],
          days.map((day, n) => [day, ...series.map(({ values }) => cell(values[n])),
            ...several ? [cell(series.reduce((sum, { values }) => sum + values[n], 0))] : []])))));
}

function tile(figure, text, colour = "") {
  return make("li", {}, make("b", { class: colour }, figure), make("span", { class: "soft" }, text));
}

function named(name, by) {
  const text = name || "(none)";
  return by === "client" && name ? make("a", { href: link("requests", { client: name }) }, text) : text;
}

function draw() {
  const { question, days, stacked } = last;
  const { by } = question, added = addUp(last), { total, daily, groups } = added;
  if (!groups.length) {
    hold(byId("usage"), [make("p", { class: "soft" }, "Nothing was used in these days.")]);
    return;
  }
  const marks = Object.fromEntries(daily.map((sums, day) => [day, sums.unpriced_tokens])
    .filter(([, tokens]) => tokens).map(([day, tokens]) => [day, `${short(tokens)} tokens without a price`]));
  const both = stacked ? `day,${by}` : "day", shown = everything ? groups : groups.slice(0, ROWS);
  hold(byId("usage"), [
    make("ul", { class: "tiles" },
      tile(spent(total), "spent"), tile(short(tokensOf(total)), "tokens"), tile(short(total.requests), "requests"),
      tile(percent(cachedOf(total)), "of all input read from caches"),
      total.unpriced_tokens ? tile(short(total.unpriced_tokens), "tokens without a price", "warn") : null,
      total.estimated_tokens ? tile(short(total.estimated_tokens), "tokens estimated") : null),
    picture(question, { title: "Spend by day, in USD", days, series: seriesOf(added, last, sums => sums.usd), format: money,
      axis: roughMoney, marks, by: both }),
    picture(question, { title: "Tokens by day", days, series: seriesOf(added, last, tokensOf), format: short, by: both,
      cell: n => n.toLocaleString("en") }),
    picture(question, { title: "Share of input read from caches, by day", days, format: percent, by: "day",
      series: [{ name: "Cache ratio", colour: 0, values: daily.map(cachedOf) }] }),
    make("figure", { "data-name": "groups" },
      make("div", { class: "behind" }, csv(question, by)),
      table(`By ${by}, ${question.from} to ${question.to}`,
        [BY[by] ?? by, "Spent", "Tokens", "Fresh input", "Cache read", "Cache written", "Output", "Cache ratio", "Unpriced", "Requests"],
        shown.map(({ name, sums }) => [named(name, by), spent(sums),
          ...[tokensOf(sums), sums.input_tokens, sums.cache_read_tokens, sums.cache_write_tokens, sums.output_tokens].map(n => n.toLocaleString("en")),
          percent(cachedOf(sums)), sums.unpriced_tokens.toLocaleString("en"), sums.requests.toLocaleString("en")])),
      shown.length < groups.length ? make("p", {}, make("button", { type: "button", "data-everything": "" }, `Show all ${groups.length}`)) : null),
  ]);
}

function choices(labels, by) {
  const names = [...Object.keys(BY), ...labels.map(name => `label.${name}`)];
  if (!names.includes(by)) names.push(by);
  hold(form.elements.by, names.map(name => make("option", { value: name }, BY[name] ?? name.replace(/^label\./, "Label "))));
  form.elements.by.value = by;
}

views.usage = {
  every: () => 60000,
  open(query) {
    const question = asked(query);
    for (const name of ["range", "from", "to"]) form.elements[name].value = question[name];
  },
  async look(query) {
    const question = asked(query), days = daysOf(question);
    choices(await ask("/admin/v1/labels"), question.by);
    const { from, to } = question;
    const told = by => ask(`${USAGE}?${new URLSearchParams({ from, to, by })}`);
    const sums = await told(question.by), stacked = sums.length * days.length <= MOST_ROWS;
    last = { question, days, sums, stacked, rows: await told(stacked ? `day,${question.by}` : "day") };
    draw();
  },
};

form.addEventListener("submit", event => event.preventDefault());
form.addEventListener("change", event => {
  const { range, from, to, by } = form.elements;
  const dated = event.target === from || event.target === to || !range.value;
  location.hash = link("usage", { by: by.value, ...dated ? { from: from.value, to: to.value } : { range: range.value } });
});
byId("usage").addEventListener("click", event => {
  if (!event.target.closest("[data-everything]")) return;
  everything = true;
  draw();
});
new ResizeObserver(() => { if (last && !byId("view-usage").hidden) draw(); }).observe(byId("usage"));
}
