"use strict";
// Version, age, and how the last reload went: also above the other views, where it went wrong.
{
function draw({ version, started_at, ready, reload }) {
  const entries = [
    ["Version", version],
    ["Running", `for ${span(Date.now() / 1000 - started_at)}, since ${when(started_at)}`],
    ["Serves", make("span", { class: ready ? "good" : "bad" }, ready ? "yes" : "no: it starts, or drains")],
    ["Last reload", reload.at === started_at ? "none since the start"
      : [make("span", { class: reload.successful ? "good" : "bad" }, reload.successful ? "went well" : "changed nothing"), `, ${when(reload.at)}`]],
    reload.changes ? ["It changed", reload.changes] : null,
    reload.successful ? null : ["Its mistake", [make("pre", {}, reload.mistake),
      "The daemon goes on as it was, and would not start with this file."]],
  ];
  hold(byId("daemon"), [make("dl", {}, entries.filter(Boolean).map(([name, what]) => [make("dt", {}, name), make("dd", {}, what)]))]);
}

function about({ version, started_at, reload }) {
  const age = span(Date.now() / 1000 - started_at);
  const reloaded = reload.at === started_at ? "" : `, reloaded ${when(reload.at)}`;
  byId("about").textContent = `claudeproxyd ${version}, running for ${age}${reload.successful ? reloaded : ""}`;
}

function notices({ reload, limits }) {
  notice("daemon", reload.successful ? [] : [{ colour: "bad", href: "#daemon", about: "The last reload failed",
    text: `The configuration on disk has a mistake, and a restart would fail: ${reload.mistake.split("\n")[0]}` }]);
  notice("ledger", limits.complete ? [] : [{ colour: "bad", href: "#limits", about: "Limits do not know what was used before",
    text: `Limits do not know all that was used before the start, for the ledger cannot be asked: ${limits.why}` }]);
}

views.daemon = {
  always: true,
  every: () => 5000,
  async look() {
    const told = await ask("/admin/v1/status");
    about(told);
    notices(told);
    draw(told);
  },
};

byId("reload").addEventListener("click", async () => {
  byId("reload").disabled = true;
  try {
    await act("/admin/v1/reload", "{}");
    tell("");
  } catch (error) {
    tell(`That did not work: ${error.message}`);
  }
  byId("reload").disabled = false;
  lookAt("daemon");
});
}
