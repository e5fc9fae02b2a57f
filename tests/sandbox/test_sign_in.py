"""Signing in as an integration does: client credentials are in test_salesforce.py, here the signed assertion."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import jwt
import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from onetouch.sandbox.in_process import URL, Org

from tests.sandbox.conftest import NOW, ORG

TIME = int(datetime.fromisoformat(NOW).timestamp())
CLAIMS = {"iss": "sandbox-key", "sub": "integration@sandbox.example", "aud": URL, "exp": TIME + 180}


@pytest.fixture(scope="module")
def org() -> Org:
    org = Org()
    org.tooling.clock(NOW)
    org.tooling.load(ORG)
    return org


def offer(org: Org, key: Any = None, algorithm: str = "RS256", **claims: Any) -> requests.Response:
    given = {name: value for name, value in (CLAIMS | claims).items() if value is not None}
    assertion = jwt.encode(given, key or org.tooling.certificate()["private_key"], algorithm=algorithm)
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion}
    return org.session().post(f"{URL}/services/oauth2/token", data=form)


@pytest.mark.parametrize("claims", [{}, {"aud": "https://login.salesforce.com"}, {"exp": str(TIME + 60)}])
def test_a_good_assertion_is_a_session(org: Org, claims: dict[str, Any]) -> None:
    answer = offer(org, **claims).json()
    assert (answer["token_type"], answer["instance_url"], "refresh_token" in answer) == ("Bearer", URL, False)
    session = org.session()
    session.headers["Authorization"] = f"Bearer {answer['access_token']}"
    assert session.get(f"{URL}/services/data/v62.0/limits").status_code == 200
    org.tooling.expire_sessions()
    assert session.get(f"{URL}/services/data/v62.0/limits").status_code == 401


@pytest.mark.parametrize(
    ("claims", "error", "description"),
    [
        ({"iss": "another-app"}, "invalid_client_id", "client identifier invalid"),
        ({"sub": "nobody@acme.example"}, "invalid_grant", "user hasn't approved this consumer"),
        ({"aud": "https://test.salesforce.com"}, "invalid_grant", "audience is invalid"),
        ({"exp": TIME}, "invalid_grant", "expired authorization code"),
        ({"exp": TIME + 181}, "invalid_grant", "invalid assertion"),
        ({"exp": "soon"}, "invalid_grant", "invalid assertion"),
        ({"sub": None}, "invalid_grant", "invalid assertion"),
    ],
)
def test_a_wrong_claim_is_refused(org: Org, claims: dict[str, Any], error: str, description: str) -> None:
    answer = offer(org, **claims)
    assert (answer.status_code, answer.json()) == (400, {"error": error, "error_description": description})


def test_only_the_apps_own_key_signs(org: Org) -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    invalid = {"error": "invalid_grant", "error_description": "invalid assertion"}
    assert offer(org, other).json() == invalid
    assert offer(org, "sandbox-secret-that-is-long-enough", "HS256").json() == invalid
    unsigned = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": "x.y.z"}
    assert org.session().post(f"{URL}/services/oauth2/token", data=unsigned).json() == invalid

    copy = Org(org.image())
    assert offer(copy).status_code == 200, "the same org keeps its key"
    public = other.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    copy.tooling.certificate(public.decode())
    assert offer(copy, other).status_code == 200
    assert offer(copy, org.tooling.certificate()["private_key"]).json() == invalid
