"use strict";
// Talking to the daemon, with the key where it wants one. The key is in this page's memory alone.

const PATIENCE = 8000;
let key = "";

class KeyWanted extends Error {}
class Refused extends Error {} // the daemon is there, and says why it does not

async function send(path, options = {}) {
  const headers = { ...options.headers, ...(key && { authorization: `Bearer ${key}` }) };
  const answer = await fetch(path, {
    ...options, headers, cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(PATIENCE),
  });
  if (answer.status === 401) {
    tell(key ? "That is not the admin key." : "");
    key = "";
    byId("key").hidden = false;
    byId("headline").textContent = "claudeproxyd";
    byId("secret").focus();
    throw new KeyWanted("the admin key is wanted");
  }
  if (!answer.ok) {
    const body = await answer.json().catch(() => null);
    throw new Refused(body?.error?.message ?? `${answer.status}`);
  }
  return answer;
}

const ask = async (path, options) => (await send(path, options)).json();
const act = (path, body, method = "POST") =>
  ask(path, { method, body, headers: { "content-type": "application/json" } });

function tell(text) {
  byId("note").textContent = text;
  byId("note").hidden = !text;
}

// A link does not send the key: what it leads to is fetched, and given to the browser as a file.
async function download(link) {
  const answer = await send(link.getAttribute("href"));
  const file = URL.createObjectURL(await answer.blob());
  make("a", { href: file, download: link.download }).click();
  setTimeout(() => URL.revokeObjectURL(file), 60000);
}

document.addEventListener("click", event => {
  const link = event.target.closest("a[download]");
  if (!link || !key) return;
  event.preventDefault();
  download(link).catch(error => tell(`That did not work: ${error.message}`));
});
