"""The table of models."""

from __future__ import annotations

import datetime
import itertools
from fnmatch import fnmatchcase

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.translate.converse import models
from claudeproxyd.translate.converse.models import AS_OF, ConverseCapabilities, capabilities_of, nested

NOVA = capabilities_of("amazon.nova-pro-v1:0")


class TableTests(SynchronousTestCase):
    """What is known of a model, by its id."""

    def test_date(self) -> None:
        """The table says when it was held against what is known."""
        self.assertLess(datetime.date(2026, 11, 1), datetime.date.fromisoformat(AS_OF))

    def test_regions_and_arns(self) -> None:
        """A profile's region, and the ARN of a model or of a profile, change nothing; new regions neither."""
        for id in (
            "us.amazon.nova-pro-v1:0",
            "us-gov.amazon.nova-pro-v1:0",
            "global.amazon.nova-pro-v1:0",
            "moon.amazon.nova-pro-v1:0",
            "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-pro-v1:0",
            "arn:aws-us-gov:bedrock:us-gov-west-1:123456789012:inference-profile/us-gov.amazon.nova-pro-v1:0",
        ):
            self.assertIs(capabilities_of(id), NOVA, id)

    def test_unknown(self) -> None:
        """Any other gets the least, and no other's reasoning."""
        for id in ("arn:aws:bedrock:us-east-1:1:application-inference-profile/abc", "somebody.new-v1:0", "nova", ""):
            self.assertEqual(
                capabilities_of(id), ConverseCapabilities(maker=id.rpartition("/")[2], tools_alone=True), id
            )

    def test_rows_are_reached(self) -> None:
        """No row stands behind one that takes all of its models."""
        globs = [glob for glob, _ in models._CAPABILITIES]
        for earlier, later in itertools.combinations(globs, 2):
            self.assertFalse(fnmatchcase(later, earlier), f"{later} behind {earlier}")

    def test_nothing_is_lost_between_models(self) -> None:
        """Whoever gives reasoning back has a word for whose it is, which no other family has."""
        for glob, capabilities in models._CAPABILITIES:
            if capabilities.takes_unsigned or capabilities.effort is not None:
                self.assertTrue(capabilities.maker, glob)

    def test_levels(self) -> None:
        """Efforts are Claude's own words, the least first."""
        known = ("low", "medium", "high", "xhigh", "max")
        for glob, capabilities in models._CAPABILITIES:
            levels = capabilities.effort.levels if capabilities.effort else ("low",)
            self.assertEqual(sorted(levels, key=known.index), list(levels), glob)

    def test_nested(self) -> None:
        """Members lead to a value; what stands beside it stands on the innermost level."""
        self.assertEqual(nested(["a"], 1), {"a": 1})
        self.assertEqual(nested(["a", "b"], 1, {"c": 2}), {"a": {"b": 1, "c": 2}})
