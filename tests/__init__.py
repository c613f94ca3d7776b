"""The tests. Properties are tried on the same examples each time, however long they take; ``make fuzz`` has others."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "suite",
    derandomize="FUZZ_EXAMPLES" not in os.environ,
    deadline=None,  # a busy machine lets an example wait
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("suite")
