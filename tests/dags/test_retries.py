import importlib
import json
import pkgutil
import socket

import pytest


@pytest.fixture
def policy(airflow_database):
    from onetouch_airflow.retries import NotInVain

    return NotInVain()


def decide(policy, error):
    return policy.evaluate(error, try_number=1, max_tries=4).action.value


def test_a_bad_policy_file_is_not_tried_again(policy, tmp_path):
    from onetouch.policy import PolicyError, read_policy

    with pytest.raises(PolicyError) as caught:
        read_policy(tmp_path / "absent.yaml")
    assert decide(policy, caught.value) == "fail"


@pytest.mark.parametrize("error", [ValueError("as_of lies in the future"), KeyError("x"), ModuleNotFoundError()])
def test_a_bug_is_not_tried_again(policy, error):
    assert decide(policy, error) == "fail"


@pytest.mark.parametrize(
    "error",
    [ConnectionError(), TimeoutError(), socket.gaierror(), OSError(28, "disk"), json.JSONDecodeError("", "", 0)],
)
def test_an_outage_has_its_retries(policy, error):
    assert decide(policy, error) == "default"


def test_the_names_are_those_of_the_library(policy):
    """A renamed exception must not silently be retried."""
    import onetouch
    from onetouch_airflow.retries import OURS

    for module in pkgutil.walk_packages(onetouch.__path__, "onetouch."):
        if "migrations" not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    kinds, found = [Exception], set()
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        if kind.__module__.startswith("onetouch."):
            found.add(kind.__qualname__)
    assert found >= OURS


def test_somebody_elses_exception_of_the_same_name_is_tried_again(policy):
    assert decide(policy, type("PolicyError", (Exception,), {"__module__": "elsewhere.library"})()) == "default"
