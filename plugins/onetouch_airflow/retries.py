"""Which failures another try can cure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import RetryDecision, RetryPolicy

if TYPE_CHECKING:
    from airflow.sdk import Context

IN_VAIN = frozenset(
    {
        "onetouch.policy.read.PolicyError",
        "onetouch.connections.ConnectionConfigError",
        "onetouch.workspace.NotConfigured",
        "onetouch.quality.ChecksFailed",
        "onetouch.delivery.DeliveryFailed",
        "builtins.ValueError",
        "builtins.TypeError",
        "builtins.KeyError",
    }
)


class NotInVain(RetryPolicy):
    """Fails at once on an exception that the next try would meet again; anything else has its retries.

    Classes are compared by name, so that a DAG file needn't import the library's heavy rooms to name their errors
    (Airflow's own ExceptionRetryPolicy imports every class it is given).
    """

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """Fails for the classes of IN_VAIN, by their exact name; the task's retries decide otherwise."""
        kind = type(exception)
        name = f"{kind.__module__}.{kind.__qualname__}"
        if name in IN_VAIN:
            return RetryDecision.fail(f"{name}: another try would end the same; see the DAG's runbook")
        return RetryDecision.default()
