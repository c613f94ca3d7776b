"""The list of models, page by page."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.principals import Principal
from tests.web.support import FakeCatalog, Listener, get


class Pages(SynchronousTestCase):
    """``GET /v1/models``."""

    def page(self, query: str = "", count: int = 25) -> Any:
        reply = Listener(catalog=FakeCatalog(*(f"m{number}" for number in range(count)))).ask(get("/v1/models" + query))
        return reply.json if reply.status == 200 else reply.status

    def ids(self, query: str) -> tuple[list[str], bool]:
        page = self.page(query)
        ids = [each["id"] for each in page["data"]]
        self.assertEqual((page["first_id"], page["last_id"]), (ids[0], ids[-1]) if ids else (None, None))
        return ids, page["has_more"]

    def test_default(self) -> None:
        """Without a limit there are twenty."""
        ids, more = self.ids("")
        self.assertEqual((len(ids), ids[0], more), (20, "m0", True))

    def test_all(self) -> None:
        """Claude Code asks for a thousand, and gets what there is."""
        ids, more = self.ids("?limit=1000")
        self.assertEqual((len(ids), more), (25, False))

    def test_forwards_and_back(self) -> None:
        """A page goes on where the last one ended, and back to where it began."""
        self.assertEqual(self.ids("?limit=2&after_id=m1"), (["m2", "m3"], True))
        self.assertEqual(self.ids("?limit=2&after_id=m22"), (["m23", "m24"], False))
        self.assertEqual(self.ids("?after_id=m24"), ([], False))
        self.assertEqual(self.ids("?limit=2&before_id=m4"), (["m2", "m3"], True))
        self.assertEqual(self.ids("?limit=5&before_id=m2"), (["m0", "m1"], False))

    def test_empty(self) -> None:
        """An empty list has no ids."""
        self.assertEqual(self.page(count=0), {"data": [], "has_more": False, "first_id": None, "last_id": None})

    def test_bad_queries(self) -> None:
        """A limit out of bounds, an unknown id, or both directions at once are a 400."""
        for query in (
            "limit=0", "limit=1001", "limit=-1", "limit=x", "limit=1.5", "limit=" + "9" * 50,
            "after_id=nope", "before_id=nope", "after_id=m1&before_id=m2",
        ):  # fmt: skip
            with self.subTest(query):
                self.assertEqual(self.page("?" + query), 400)

    def test_only_what_the_client_may_use(self) -> None:
        """A client sees no model that it may not ask for, neither listed nor alone."""
        listener = Listener(Principal("k", models=("a*",)), catalog=FakeCatalog("a1", "b1"))
        reply = listener.ask(get("/v1/models", "x-api-key: k"))
        self.assertEqual([each["id"] for each in reply.json["data"]], ["a1"])
        self.assertEqual(listener.ask(get("/v1/models/a1", "x-api-key: k")).status, 200)
        self.assertEqual(listener.ask(get("/v1/models/b1", "x-api-key: k")).status, 404)

    def test_one(self) -> None:
        """One model by its id, with slashes, colons and escapes in it; a 404 where there is none."""
        listener = Listener(catalog=FakeCatalog("org/model:7b", "ä b"))
        for path in ("org/model:7b", "org%2Fmodel%3A7b"):
            self.assertEqual(listener.ask(get("/v1/models/" + path)).json["id"], "org/model:7b")
        reply = listener.ask(get("/v1/models/nope"))
        self.assertEqual((reply.status, reply.json["error"]["type"]), (404, "not_found_error"))
        self.assertEqual(listener.ask(get("/v1/models/%C3%A4%20b")).json["id"], "ä b")

    def test_head(self) -> None:
        """HEAD tells the length alone."""
        reply = Listener().ask(get("/v1/models", method="HEAD"))
        self.assertEqual((reply.status, reply.body), (200, b""))
