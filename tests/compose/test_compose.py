"""docker-compose.yaml and Dockerfile as files: valid, without secrets, with a health check for everything."""

import json
import re
from importlib.resources import files

import jsonschema
import pytest
import yaml

from tests.compose.composed import FILE, REPOSITORY, Missing, image_environment, interpolate

COMPOSE = yaml.safe_load(FILE.read_text())
SERVICES = COMPOSE["services"]
SECRETS = {
    "POSTGRES_PASSWORD", "REDIS_PASSWORD", "AIRFLOW_FERNET_KEY", "AIRFLOW_JWT_SECRET", "AIRFLOW_API_SECRET_KEY",
    "AIRFLOW_ADMIN_PASSWORD",
}  # fmt: skip
GIVEN = {name: f"secret-{name}" for name in SECRETS}


def schema():
    vendored = files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json")
    return json.loads(vendored.read_text(encoding="utf-8"))


def test_the_file_follows_the_compose_specification():
    jsonschema.validate(interpolate(COMPOSE, GIVEN), schema())


def test_the_specification_would_notice():
    broken = interpolate(COMPOSE, GIVEN)
    broken["services"]["redis"]["healthchek"] = {}
    with pytest.raises(jsonschema.ValidationError, match="healthchek"):
        jsonschema.validate(broken, schema())


def test_airflow_runs_as_these_services():
    assert set(SERVICES) == {
        "postgres", "redis", "airflow-init", "airflow-apiserver", "airflow-scheduler", "airflow-dag-processor",
        "airflow-worker", "airflow-triggerer", "sandbox",
    }  # fmt: skip
    assert [n for n, s in SERVICES.items() if "profiles" in s] == ["sandbox"]


@pytest.mark.parametrize("secret", sorted(SECRETS))
def test_nothing_starts_without_every_secret(secret):
    with pytest.raises(Missing, match=secret):
        interpolate(COMPOSE, {k: v for k, v in GIVEN.items() if k != secret})


def test_no_secret_has_a_value_in_the_files():
    text = FILE.read_text()
    for name in re.findall(r"\$\{(\w*(?:PASSWORD|SECRET|KEY)\w*)", text):
        assert name in SECRETS
        assert all(form.startswith(":?") for form in re.findall(rf"\${{{name}(\W[^}}]?)", text)), name
    example = (REPOSITORY / ".env.example").read_text()
    assert dict(re.findall(r"^(\w+)=(.*)$", example, re.MULTILINE)) == dict.fromkeys(
        re.findall(r"^(\w+)=", example, re.MULTILINE), ""
    )
    used = set(re.findall(r"(?<!\$)\$\{(\w+)", text))
    assert used == set(re.findall(r"^(\w+)=", example, re.MULTILINE))
    assert ".env" in (REPOSITORY / ".gitignore").read_text().splitlines()


@pytest.mark.parametrize("name", [n for n in SERVICES if n != "airflow-init"])
def test_every_long_running_service_says_whether_it_is_healthy(name):
    service = SERVICES[name]
    assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert service["restart"] == "unless-stopped"
    if "airflow jobs check" in service["healthcheck"]["test"][1]:
        assert int(service["healthcheck"]["timeout"].rstrip("s")) >= 10  # it takes 5 s


def test_only_the_loopback_address_is_published():
    published = [port for s in interpolate(COMPOSE, GIVEN)["services"].values() for port in s.get("ports", [])]
    assert published == ["127.0.0.1:8080:8080"]


def test_airflow_waits_for_what_it_needs_and_shares_what_it_must():
    for name, service in SERVICES.items():
        if name.startswith("airflow-") and name != "airflow-init":
            assert service["depends_on"]["airflow-init"]["condition"] == "service_completed_successfully"
            for shared in ("FERNET_KEY", "JWT_SECRET", "SECRET_KEY", "EXECUTION_API_SERVER_URL", "SQL_ALCHEMY_CONN"):
                (key,) = [k for k in service["environment"] if k.endswith(f"__{shared}")]
                assert service["environment"][key] == SERVICES["airflow-init"]["environment"][key]
            assert {"lake:/lake", "logs:/opt/airflow/logs"} <= set(service["volumes"])
    volumes = {v.partition(":")[0] for s in SERVICES.values() for v in s.get("volumes", [])}
    assert volumes == set(COMPOSE["volumes"])


def test_the_image_runs_as_nobody_special_and_holds_no_secret():
    text = (REPOSITORY / "Dockerfile").read_text()
    assert re.findall(r"^USER (\S+)", text, re.MULTILINE) == ["onetouch"]
    assert re.search(r"^FROM python:3\.11-slim\S*$", text, re.MULTILINE)
    assert not re.search(r"PASSWORD|SECRET|FERNET|TOKEN|\bARG\b", text)
    for sources in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE):
        for source in sources.split():
            assert (REPOSITORY / source).exists(), source
    ignored = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert "!.env" not in ignored
    for source in re.findall(r"^COPY (\S+)", text, re.MULTILINE):
        assert f"!{source}" in ignored


def test_every_place_the_services_name_is_in_the_image():
    text = (REPOSITORY / "Dockerfile").read_text()
    for volume in SERVICES["airflow-worker"]["volumes"]:
        assert volume.split(":")[1] in re.search(r"mkdir -p (.+?) &&", text)[1].split()
    for name, value in image_environment().items():
        if value.startswith("/opt/onetouch/"):
            assert (REPOSITORY / value.removeprefix("/opt/onetouch/")).is_dir(), name
