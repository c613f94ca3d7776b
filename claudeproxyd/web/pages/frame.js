"use strict";
// Which view is shown, when each is asked for anew, and what is said above them all.
// A view has look(query), every(shown) in milliseconds, open(query) where it has a form, and *always* where it is
// looked at also while another is shown. Who may not read is shown, and asked for, only what *may* says.

const views = {};
let who = null; // whose the key is: {name, role, mint}
const TICK = 1000;
const due = {}, told = {}, said = {};
const pool = { text: "", well: true };
let timer = 0, answered = Date.now(), looking = false, again = false;

function address() {
  const [name, query] = location.hash.slice(1).split("?");
  return { name: Object.hasOwn(views, name) ? name : "pool", query: new URLSearchParams(query) };
}

function link(name, query) {
  const wanted = Object.entries(query).filter(([, value]) => value);
  return `#${name}${wanted.length ? "?" : ""}${new URLSearchParams(wanted)}`;
}

function turn() {
  const { name, query } = address();
  for (const view of document.querySelectorAll(".view")) view.hidden = view.id !== `view-${name}`;
  for (const each of document.querySelectorAll("nav a"))
    if (each.getAttribute("href") === `#${name}`) each.setAttribute("aria-current", "page");
    else each.removeAttribute("aria-current");
  announce("view", document.querySelector("nav [aria-current]").textContent);
  views[name].open?.(query);
  lookAt(name);
}

const may = name => views[name].may?.(who) ?? ["read", "operate"].includes(who.role);

// What this operator may not see is not offered.
async function meet() {
  who = await ask("/admin/v1/operator");
  const open = Object.keys(views).filter(may);
  for (const each of document.querySelectorAll("nav a")) each.hidden = !open.includes(each.hash.slice(1));
  if (!open.includes("pool")) byId("headline").textContent = open.length ? "claudeproxyd" : `Nothing here is for ${who.name}`;
  if (open.length && !open.includes(address().name)) location.replace(`#${open[0]}`);
}

function lookAt(name) {
  due[name] = 0;
  look();
}

// -- what is said

// To those who hear the page: what it is about, and not each figure that moves.
function announce(source, text) {
  if (said[source] === text) return;
  said[source] = text;
  if (text) byId("live").textContent = text;
}

// The title is for who looks at another window: all that is wrong, the pool first.
function entitle() {
  const wrong = Object.values(told).flat().map(({ about }) => about);
  const all = pool.well && wrong.length ? wrong : [pool.text, ...wrong];
  document.title = `${all.filter(Boolean).join("; ")} – claudeproxyd`;
}

function sum_up(text, well) {
  Object.assign(pool, { text, well });
  entitle();
}

// *each*: {colour, text, href, about}; *about* is what is announced, and said in the title.
function notice(source, each) {
  told[source] = each;
  hold(byId("notices"), Object.values(told).flat().map(({ colour, text, href }) =>
    make("li", { class: colour }, make("a", { href }, text))));
  announce(source, each.map(({ about }) => about).join(". "));
  entitle();
}

function stale(error) {
  document.body.classList.add("stale");
  byId("note").dataset.stale = "yes";
  tell(`No answer for ${span((Date.now() - answered) / 1000)}: what is below is old. (${error.message})`);
}

function fresh() {
  answered = Date.now();
  document.body.classList.remove("stale");
  if (byId("note").dataset.stale) { delete byId("note").dataset.stale; tell(""); }
}

// -- looking

async function one(name, query) {
  const trouble = byId(`view-${name}`).querySelector(".trouble");
  try {
    await views[name].look(query);
    if (trouble?.textContent) trouble.textContent = "";
  } catch (error) {
    if (!(trouble && error instanceof Refused)) throw error;
    trouble.textContent = error.message;
  }
}

async function round() {
  if (!who) await meet();
  const { name: shown, query } = address();
  for (const [name, view] of Object.entries(views).filter(([each]) => may(each))) {
    const now = Date.now();
    if (name !== shown && !view.always || (due[name] ?? 0) > now) continue;
    due[name] = now + view.every(name === shown) - TICK / 2;
    await one(name, name === shown ? query : new URLSearchParams());
  }
}

async function look() {
  if (looking) { again = true; return; }
  clearTimeout(timer);
  const began = Date.now();
  looking = true;
  try {
    do { again = false; await round(); } while (again);
    fresh();
  } catch (error) {
    if (!(error instanceof KeyWanted)) stale(error);
  }
  looking = false;
  if (byId("key").hidden && !document.hidden) timer = setTimeout(look, Math.max(TICK, 5 * (Date.now() - began)));
}

byId("key").addEventListener("submit", event => {
  event.preventDefault();
  key = byId("secret").value;
  who = null;
  byId("secret").value = "";
  byId("key").hidden = true;
  tell("");
  for (const name of Object.keys(views)) due[name] = 0;
  look();
});
document.addEventListener("visibilitychange", () => { if (!document.hidden && byId("key").hidden) look(); });
window.addEventListener("hashchange", turn);
document.addEventListener("DOMContentLoaded", turn);
