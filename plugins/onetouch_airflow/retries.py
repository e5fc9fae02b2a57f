"""Which failures another try can cure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import RetryDecision, RetryPolicy

if TYPE_CHECKING:
    from airflow.sdk import Context

OURS = frozenset(
    {
        "PolicyError", "ConnectionConfigError", "NotConfigured", "AccountsError",  # what was given cannot be used
        "SignInRefused", "FieldsMissing", "Refused", "LimitReached",  # the CRM says no, and will in ten minutes
        "ChecksFailed", "DeliveryFailed", "IllegalMove",  # everything was done that could be
    }
)  # fmt: skip
"""The library's own: what they say stays true until somebody changes something."""

BUGS = frozenset(
    {"ValueError", "TypeError", "KeyError", "AttributeError", "NameError", "ImportError", "ModuleNotFoundError"}
)
"""Python's, for wrong input or wrong code. Their subclasses are not meant: some mean a garbled answer."""


class NotInVain(RetryPolicy):
    """Fails at once on an exception that the next try would meet again; anything else has its retries.

    Classes are compared by name, so that a DAG file needn't import the library's heavy rooms to name their errors
    (Airflow's own ExceptionRetryPolicy imports every class it is given).
    """

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """Fails for OURS and BUGS; the task's retries decide otherwise."""
        kind = type(exception)
        package = kind.__module__.partition(".")[0]
        if (package == "onetouch" and kind.__qualname__ in OURS) or (
            package == "builtins" and kind.__qualname__ in BUGS
        ):
            return RetryDecision.fail(f"{kind.__qualname__}: another try would end the same; see the DAG's runbook")
        return RetryDecision.default()
