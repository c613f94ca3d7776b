"use strict";
// Figures in words.

const count = (n, one, many = one + "s") => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
const plain = word => word.replaceAll("_", " ");
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const short = n => compact.format(n);

function span(seconds) {
  const s = Math.ceil(seconds);
  if (s < 120) return `${s} s`;
  const minutes = Math.ceil(s / 60);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days ${hours % 24} h`;
}

function enumerated(names, most) {
  const told = names.length > most ? [...names.slice(0, most), `${names.length - most} more`] : names;
  return told.length < 2 ? told.join("") : `${told.slice(0, -1).join(", ")} and ${told.at(-1)}`;
}

function money(usd) {
  const places = usd === 0 || usd >= 1 ? 2 : usd >= 0.01 ? 3 : 6;
  return "$" + usd.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: places });
}

const roughMoney = usd => usd < 1000 ? money(usd) : `$${short(usd)}`;
const percent = share => `${Math.round(100 * share)} %`;
const when = seconds => new Date(1000 * seconds).toLocaleString("sv");

function outcomes(counts) {
  return Object.entries(counts).sort((a, b) => b[1] - a[1])
    .map(([outcome, n]) => `${plain(outcome)} ${n.toLocaleString("en")}`).join(" · ");
}
