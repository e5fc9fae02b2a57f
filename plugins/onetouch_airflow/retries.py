"""Which failures another try can cure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import RetryDecision, RetryPolicy

if TYPE_CHECKING:
    from airflow.sdk import Context

OURS = frozenset(
    {
        "PolicyError", "ConnectionConfigError", "NotConfigured", "AccountsError",  # what was given cannot be used
        "SignInRefused", "FieldsMissing", "Refused",  # the CRM says no, and will in ten minutes
        "LimitReached",  # the day's calls are used up, or the rest is others': rows wait in the outbox for a later run
        "ChecksFailed", "IllegalMove",
        "DeliveryFailed",  # every other row is done; what can be sent later the next run sends, the rest needs a person
        "Pruned",  # what was deleted stays so
        "Stopped",  # somebody wants nothing sent: not even in ten minutes
    }
)  # fmt: skip
"""The library's own: what they say stays true until somebody changes something, or until the next run."""

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
