"use strict";
// The document: what is wanted is built anew, and what is there becomes it, element by element. Text is only ever text.

const byId = id => document.getElementById(id);
const DRAWING = document.querySelector("svg").namespaceURI;

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) element.setAttribute(name, value);
  element.append(...children.flat(Infinity).filter(child => child !== null && child !== undefined));
  return element;
}

const make = (tag, properties, ...children) => fill(document.createElement(tag), properties, children);
const shape = (tag, properties, ...children) => fill(document.createElementNS(DRAWING, tag), properties, children);

function become(there, wanted) {
  if (there.nodeType === Node.TEXT_NODE) {
    if (there.data !== wanted.data) there.data = wanted.data;
    return;
  }
  for (const { name, value } of wanted.attributes)
    if (there.getAttribute(name) !== value) there.setAttribute(name, value);
  for (const { name } of [...there.attributes])
    if (name !== "open" && !wanted.hasAttribute(name)) there.removeAttribute(name); // what a person opened stays so
  hold(there, [...wanted.childNodes]);
}

function hold(parent, wanted) {
  const named = new Map([...parent.children].filter(child => child.dataset.name).map(child => [child.dataset.name, child]));
  wanted.forEach((node, place) => {
    const now = parent.childNodes[place];
    const name = node.dataset?.name;
    const there = name ? named.get(name) : now;
    if (there && there.nodeName === node.nodeName && (name || !there.dataset?.name)) {
      if (there !== now) parent.insertBefore(there, now ?? null);
      become(there, node);
    } else parent.insertBefore(node, now ?? null);
  });
  while (parent.childNodes.length > wanted.length) parent.lastChild.remove();
}

function show(id, children) {
  hold(byId(id), children);
  byId(id).closest("section").hidden = !children.length;
}

// A table whose first column names its rows; wider than the screen, it is scrolled by itself.
function table(caption, heads, rows) {
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    make("table", {}, make("caption", {}, caption),
      make("thead", {}, make("tr", {}, heads.map(head => make("th", { scope: "col" }, head)))),
      make("tbody", {}, rows.map(([first, ...cells]) => make("tr", {},
        make("th", { scope: "row" }, first), cells.map(cell => make("td", {}, cell)))))));
}
