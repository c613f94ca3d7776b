"""Windows of budgets."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.accounts.windows import WINDOWS, window_of

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, zone: ZoneInfo | type[None] | None = None) -> float:
    """Seconds since the epoch."""
    return datetime.fromisoformat(text).replace(tzinfo=zone or UTC).timestamp()  # type: ignore[arg-type]


class WindowTests(SynchronousTestCase):
    """As a calendar has them."""

    def test_in_utc(self) -> None:
        """Days, weeks from Monday, months; the end is the next one's."""
        for per, time, start, end in (
            ("day", "2026-12-31T23:59:59", "2026-12-31", "2027-01-01"),
            ("day", "2027-01-01T00:00:00", "2027-01-01", "2027-01-02"),
            ("week", "2026-11-29T12:00:00", "2026-11-23", "2026-11-30"),
            ("week", "2026-11-30T00:00:00", "2026-11-30", "2026-12-07"),
            ("month", "2026-12-15T00:00:00", "2026-12-01", "2027-01-01"),
            ("month", "2028-02-29T12:00:00", "2028-02-01", "2028-03-01"),
        ):
            self.assertEqual(window_of(per, UTC, at(time)), (at(start), at(end)), (per, time))

    def test_in_a_zone(self) -> None:
        """By its own midnight, also on days of 23 and 25 hours."""
        window = window_of("day", BERLIN, at("2026-11-29T23:30:00"))
        self.assertEqual(window, (at("2026-11-30", BERLIN), at("2026-12-01", BERLIN)))
        for day, hours in (("2026-03-29", 23), ("2026-10-25", 25)):
            window = window_of("day", BERLIN, at(f"{day}T12:00:00", BERLIN))
            self.assertEqual(window.end - window.start, hours * 3600)

    @given(
        st.sampled_from(WINDOWS),
        st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Pacific/Apia"]),
        st.floats(0, 4e9),
    )
    def test_cover_all_time(self, per: str, zone: str, time: float) -> None:
        """Each moment is in its window, and windows follow each other."""
        window = window_of(per, ZoneInfo(zone), time)
        self.assertTrue(window.start <= time < window.end)
        self.assertEqual(window_of(per, ZoneInfo(zone), window.start), window)
        self.assertEqual(window_of(per, ZoneInfo(zone), window.end).start, window.end)
