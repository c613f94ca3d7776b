"""Operators who may mint for a label alone, and every way out of it that was thought of."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.globs import covers
from claudeproxyd.principals import Principal
from claudeproxyd.web.minting import Minting
from claudeproxyd.web.roles import Operator, Role
from tests.accounts.support import NOON
from tests.web.support import AdminListener, Reply, get, post
from tests.web.test_admin import admin_root
from tests.web.test_keys import KeysTestCase, delete

DAY = 86_400
LEAD = Minting({"team": "ads"}, ("ads-*",), ("claude-haiku-*", "claude-sonnet-5"), 4, 30.0 * DAY)


class MintingTestCase(KeysTestCase):
    """Somebody may do everything, and somebody mint for a team."""

    def setUp(self) -> None:
        super().setUp()
        self.keys.configure(
            [Principal("ads-ci", {"team": "ads"}), Principal("other-ci", {"team": "search"})], is_open=False
        )
        self.admin = AdminListener(
            admin_root(keys=self.keys),
            Operator("all", role=Role.OPERATE),
            Operator("lead", role=Role.MINT, minting=LEAD),
            Operator("reader", role=Role.READ, minting=Minting({"team": "ads"})),
            Operator("scraper", role=Role.METRICS),
        )

    def ask(self, data: bytes, who: str = "lead") -> Reply:
        """As that operator does."""
        line, rest = data.split(b"\r\n", 1)
        return self.admin.ask(line + f"\r\nx-api-key: {who}\r\n".encode() + rest)

    def wants(self, who: str = "lead", **terms: Any) -> Reply:
        """Ask for a key."""
        return self.ask(post("/admin/v1/keys", json.dumps({"name": "ads-ann", **terms}).encode()), who)

    def named(self, who: str = "lead") -> list[str]:
        """Whom that operator sees."""
        return [each["name"] for each in self.ask(get("/admin/v1/keys"), who).json["keys"]]

    @property
    def audited(self) -> list[tuple[str, str, bool]]:
        """Who did, or tried, what."""
        return [(each.operator, each.action, bool(each.error)) for each in self.admin.audit]


class Within(MintingTestCase):
    """What they may."""

    def test_mint(self) -> None:
        """What is left out is what they may give at most, and the label is there by itself."""
        self.assertEqual(self.wants().status, 200)
        (entry,) = (each for each in self.ask(get("/admin/v1/keys")).json["keys"] if each["name"] == "ads-ann")
        self.assertEqual(
            {name: entry[name] for name in ("labels", "models", "max_concurrency", "expires")},
            {"labels": {"team": "ads"}, "models": [*LEAD.models], "max_concurrency": 4, "expires": NOON + 30 * DAY},
        )
        narrower = {"models": ["claude-haiku-4*", "claude-sonnet-5"], "max_concurrency": 1, "expires_in": 60}
        self.assertEqual(self.wants(name="ads-bob", labels={"team": "ads"}, **narrower).status, 200)
        self.assertEqual(self.audited, [("lead", "key.mint", False), ("lead", "key.mint", False)])

    def test_theirs(self) -> None:
        """They list, rotate and revoke the keys of their label, also those that another minted within their bounds."""
        self.wants()
        self.wants(
            "all", name="ads-bob", labels={"team": "ads"}, models=["claude-haiku-5"], max_concurrency=1, expires_in=60
        )
        self.wants("all", name="other", labels={"team": "search"})
        self.wants("all", name="nobodys")
        self.assertEqual(self.named(), ["ads-ci", "ads-ann", "ads-bob"])
        for name in ("ads-ann", "ads-bob"):
            self.assertEqual(self.ask(post(f"/admin/v1/keys/{name}/rotate", b'{"overlap":0}')).status, 200)
            self.assertEqual(self.ask(delete(f"/admin/v1/keys/{name}")).status, 200)

    def test_reader(self) -> None:
        """Who may read everything sees all keys, and mints for the label alone."""
        self.wants("all", name="other", labels={"team": "search"})
        self.assertEqual(self.named("reader"), ["ads-ci", "other-ci", "other"])
        self.assertEqual(self.wants("reader", name="anything").status, 200)
        self.assertEqual(self.wants("reader", name="x", labels={"team": "search"}).status, 403)
        self.assertEqual(self.ask(delete("/admin/v1/keys/other"), "reader").status, 404)

    def test_name_of_theirs_is_free_again(self) -> None:
        """The name of a key of theirs that is over can be used again."""
        self.wants()
        self.ask(delete("/admin/v1/keys/ads-ann"))
        self.assertEqual(self.wants().status, 200)


class Beyond(MintingTestCase):
    """What they may not. Each attempt is written down."""

    def test_terms(self) -> None:
        """No key gets more than they may give, or less of the label."""
        for terms, why in (
            ({"labels": {"team": "search"}}, "labels: you may mint for team = ads"),
            ({"labels": {"team": "ads", "project": "of-others"}}, "labels:"),
            ({"labels": {"project": "of-others"}}, "labels:"),
            ({"labels": {"Team": "ads"}}, "labels:"),
            ({"labels": {"team": "ads "}}, "labels:"),
            ({"models": ["*"]}, "models: * is not within claude-haiku-* claude-sonnet-5"),
            ({"models": ["claude-haiku-5", "claude-opus-5"]}, "models: claude-opus-5"),
            ({"models": ["claude-*"]}, "models:"),
            ({"models": ["claude-haiku-[45]"]}, "models:"),
            ({"models": ["claude-haiku?*"]}, "models:"),
            ({"models": ["claude-sonnet-?"]}, "models:"),
            ({"models": ["claude-sonnet-5[1m]"]}, "models:"),
            ({"max_concurrency": 5}, "max_concurrency: at most 4"),
            ({"expires_in": 30 * DAY + 1}, "expires_in: at most 2592000 seconds"),
            ({"name": "ann"}, "name: has to be ads-*"),
            ({"name": "x-ads-ann"}, "name:"),
        ):
            reply = self.wants(**terms)
            self.assertEqual((reply.status, reply.json["error"]["type"]), (403, "permission_error"), terms)
            self.assertIn(why, reply.json["error"]["message"])
            self.assertEqual(self.audited[-1], ("lead", "POST /admin/v1/keys", True))
        self.assertEqual(self.named("all"), ["ads-ci", "other-ci"])

    def test_nothing_is_not_everything(self) -> None:
        """Words that mean no bound elsewhere mean the bound here."""
        self.assertEqual(self.wants(max_concurrency=0, expires_in=None, models=None).status, 200)
        (entry,) = (each for each in self.ask(get("/admin/v1/keys")).json["keys"] if each["name"] == "ads-ann")
        self.assertEqual(
            (entry["max_concurrency"], entry["expires"], entry["models"]), (4, NOON + 30 * DAY, [*LEAD.models])
        )
        self.assertEqual(self.wants(name="ads-none", models=[]).status, 200)

    def test_keys_of_others(self) -> None:
        """Of a key that is another's they are told nothing, as of one that is not there."""
        self.wants("all", name="other", labels={"team": "search"})
        self.wants("all", name="ads-x", labels={"team": "search"})
        self.wants("all", name="nobodys")
        nothing = self.ask(delete("/admin/v1/keys/not-there")).json["error"]["message"]
        for name in ("other", "ads-x", "nobodys", "other-ci", "ads-ci"):
            for data in (delete(f"/admin/v1/keys/{name}"), post(f"/admin/v1/keys/{name}/rotate", b"{}")):
                reply = self.ask(data)
                self.assertEqual((reply.status, reply.json["error"]["message"]), (404, nothing), name)
        self.assertEqual([each for each in self.audited if each[0] == "lead" and not each[2]], [])
        self.assertEqual(len([each for each in self.audited if each[0] == "lead"]), 6)
        self.assertEqual({each["state"] for each in self.listed()}, {"active"})

    def listed(self) -> list[dict[str, Any]]:
        return self.ask(get("/admin/v1/keys"), "all").json["keys"]  # type: ignore[no-any-return]

    def test_secret_of_a_wider_key(self) -> None:
        """A new secret of a key that goes beyond would be theirs to use: they may revoke it, and not rotate it."""
        within = {"labels": {"team": "ads"}, "models": ["claude-haiku-5"], "max_concurrency": 1, "expires_in": 60}
        for number, wider in enumerate(
            (
                {"models": ["*"]},
                {"max_concurrency": 0},
                {"max_concurrency": 9},
                {"expires_in": None},
                {"expires_in": 31 * DAY},
                {"labels": {"team": "ads", "project": "x"}},
                {"name": "wide"},
            )
        ):
            name = str(wider.get("name", f"ads-{number}"))
            self.assertEqual(self.wants("all", **{"name": name, **within, **wider}).status, 200)
            reply = self.ask(post(f"/admin/v1/keys/{name}/rotate", b"{}"))
            self.assertEqual((reply.status, "beyond" in reply.json["error"]["message"]), (403, True), wider)
            self.assertEqual(self.audited[-1], ("lead", f"POST /admin/v1/keys/{name}/rotate", True))
            (entry,) = (each for each in self.listed() if each["name"] == name)
            self.assertEqual(len(entry["secrets"]), 1)
            self.assertEqual(self.ask(delete(f"/admin/v1/keys/{name}")).status, 200)

    def test_names_of_others(self) -> None:
        """A name that figures know as another's is not theirs, though its key be over; a taken one is nobody's."""
        self.wants("all", name="ads-gone", labels={"team": "search"})
        self.ask(delete("/admin/v1/keys/ads-gone"), "all")
        self.wants("all", name="ads-there", labels={"team": "search"})
        self.assertEqual(self.wants(name="ads-gone").status, 403)
        self.assertEqual(self.wants(name="ads-there").status, 409)
        self.assertEqual(self.wants(name="ads-ci").status, 409)

    def test_judged_as_it_is_then(self) -> None:
        """What counts is the key in the database, and not what this daemon remembers of it."""
        path = self.mktemp() + "/shared.db"
        here, there = self.with_database(path), self.with_database(path)
        self.keys = here
        self.admin = AdminListener(
            admin_root(keys=here), Operator("all", role=Role.OPERATE), Operator("lead", role=Role.MINT, minting=LEAD)
        )
        self.wants()
        self.successResultOf(there.revoke("ads-ann"))
        self.successResultOf(there.mint(Principal("ads-ann", {"team": "search"})))
        self.assertEqual(here.get("ads-ann").principal.labels, {"team": "ads"})  # type: ignore[union-attr]
        self.assertEqual(self.ask(post("/admin/v1/keys/ads-ann/rotate", b"{}")).status, 404)
        self.assertEqual(self.ask(delete("/admin/v1/keys/ads-ann")).status, 404)
        self.assertEqual(there.get("ads-ann").revoked, None)  # type: ignore[union-attr]

    def test_all_else(self) -> None:
        """Nothing else on the listener is theirs, and a key to mint with opens no other door."""
        for data in (
            get("/metrics"),
            get("/admin/v1/pool"),
            get("/admin/v1/clients"),
            get("/admin/v1/usage"),
            get("/admin/v1/requests"),
            get("/admin/v1/limits"),
            post("/admin/v1/pool/clear", b"{}"),
            post("/admin/v1/reload", b"{}"),
        ):
            self.assertEqual(self.ask(data).status, 403, data)
        for who in ("scraper", "reader"):
            self.assertEqual(self.ask(post("/admin/v1/reload", b"{}"), who).status, 403)
        self.assertEqual(self.wants("scraper").status, 403)
        self.assertEqual(self.ask(get("/admin/v1/keys"), "scraper").status, 403)

    def test_who_asks(self) -> None:
        """What somebody may is told to them, for the page to show no more."""
        told = self.ask(get("/admin/v1/operator")).json
        self.assertEqual((told["name"], told["role"], told["mint"]["labels"]), ("lead", "mint", {"team": "ads"}))
        self.assertEqual(
            self.ask(get("/admin/v1/operator"), "all").json, {"name": "all", "role": "operate", "mint": None}
        )
        self.assertEqual(self.ask(get("/admin/v1/operator"), "nobody").status, 401)

    def test_minted_key_is_no_operators(self) -> None:
        """What they mint opens nothing here."""
        key = self.wants().json["key"]
        self.assertEqual(self.ask(get("/admin/v1/keys"), key).status, 401)


class Covering(SynchronousTestCase):
    """When a glob is within another."""

    def test_table(self) -> None:
        """Unsure is no."""
        for one, other, is_within in (
            ("*", "anything*", True),
            ("claude-*", "claude-opus-5", True),
            ("claude-*", "claude-opus-*", True),
            ("claude-*", "claude-*", True),
            ("claude-*-5", "claude-o*-5", True),
            ("claude-*", "claude-opus-5[1m]", True),
            ("claude-*", "*", False),
            ("claude-*", "c*", False),
            ("claude-5", "claude-*", False),
            ("claude-?", "claude-5", True),
            ("claude-?", "claude-*", False),
            ("claude-*", "claude-?", False),
            ("claude-[45]", "claude-[4]", False),
            ("a*b", "a*", False),
        ):
            self.assertEqual(covers(one, other), is_within, (one, other))
