"use strict";
// Bars by day, stacked, drawn to the width that there is.

const HEIGHT = 180, LEFT = 56, RIGHT = 8, TOP = 8, BOTTOM = 24, STRIP = 5;
const SERIES = 8; // colours; the last is for all the rest

function ticks(top) {
  const rough = (top || 1) / 3, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(n => n * power).find(n => n >= rough);
  return Array.from({ length: Math.ceil((top || 1) / step) + 1 }, (_, n) => n * step);
}

// *series*: {name, colour, values}, a value a day; *format* writes them, *axis* those at the side; *marks*: days, by place, below which there is a mark, and its words.
function bars({ caption, days, series, format, axis = format, marks = {}, width }) {
  const sums = days.map((_, day) => series.reduce((sum, each) => sum + each.values[day], 0));
  const marked = Object.keys(marks).length ? STRIP + 2 : 0;
  const levels = ticks(Math.max(...sums, 0)), top = levels.at(-1);
  const high = HEIGHT - TOP - BOTTOM - marked, wide = Math.max(width - LEFT - RIGHT, 40), step = wide / days.length;
  const y = value => TOP + high * (1 - value / top), x = day => LEFT + day * step;
  const gap = step > 6 ? step * 0.2 : 0, every = Math.max(1, Math.ceil(80 / step));
  const stack = (day, floor = 0) => series.map(({ name, values, colour }) => {
    const value = values[day];
    if (!value) return null;
    const from = floor;
    floor += value;
    return shape("rect", { class: `stack s${colour}`, x: x(day) + gap / 2, width: Math.max(step - gap, 1),
      y: y(floor), height: Math.max(y(from) - y(floor), 0.5) },
    shape("title", {}, `${days[day]} · ${name}: ${format(value)}`));
  });
  return shape("svg", { role: "img", "aria-label": caption, width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}` },
    levels.map(level => [
      shape("line", { class: "axis", x1: LEFT, x2: LEFT + wide, y1: y(level), y2: y(level) }),
      shape("text", { class: "tick", x: LEFT - 6, y: y(level) + 4, "text-anchor": "end" }, axis(level)),
    ]),
    days.map((_, day) => stack(day)),
    Object.entries(marks).map(([day, words]) => shape("rect", { class: "unpriced", x: x(day) + gap / 2,
      width: Math.max(step - gap, 1), y: TOP + high + 2, height: STRIP }, shape("title", {}, `${days[day]}: ${words}`))),
    days.map((name, day) => day % every ? null : shape("text", { class: "tick", y: HEIGHT - 6,
      x: Math.min(Math.max(x(day) + step / 2, LEFT + 14), width - 20), "text-anchor": "middle" }, name.slice(5))));
}

function legend(series) {
  return make("ul", { class: "legend" }, series.map(({ name, colour }) => make("li", {},
    shape("svg", { viewBox: "0 0 1 1", "aria-hidden": "true" }, shape("rect", { class: `s${colour}`, width: 1, height: 1 })),
    name || "(none)")));
}
