"""POST /services/oauth2/token: client credentials and JWT bearer, the two flows new orgs allow for an integration."""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from collections.abc import Mapping
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from onetouch.sandbox.api import Answer
from onetouch.sandbox.store import INTEGRATION_USER, Store

CONSUMER_KEY: Final = "sandbox-key"
CONSUMER_SECRET: Final = "sandbox-secret"  # noqa: S105 - the stand-in's own, loopback only
JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"

_ORG: Final = "00DOt0000000001EAA"
_LOGIN: Final = "https://login.salesforce.com"
_LIFETIME: Final = 180  # seconds an assertion may be valid


class _Refused(Exception):
    """A refused sign-in: error, error_description."""


def sign_in(store: Store, form: Mapping[str, Any], authorization: str, base_url: str) -> Answer:
    """The answer of the token endpoint: a session, or an error in Salesforce's words."""
    grant = form.get("grant_type", "")
    try:
        if grant == "client_credentials":
            _check_secret(form, authorization)
        elif grant == JWT_BEARER:
            _check_assertion(store, str(form.get("assertion", "")), base_url)
        elif grant in ("password", "refresh_token"):
            raise _Refused("invalid_grant", "authentication failure")
        else:
            raise _Refused("unsupported_grant_type", "grant type not supported")
    except _Refused as refused:
        return Answer(400, dict(zip(("error", "error_description"), refused.args, strict=True)))
    token = f"{_ORG}!{secrets.token_urlsafe(48)}"
    store.db.execute("INSERT INTO session VALUES (?)", (token,))
    granted = {
        "access_token": token,
        "scope": "api",
        "instance_url": base_url,
        "id": f"{base_url}/id/{_ORG}/{INTEGRATION_USER}",
        "token_type": "Bearer",
    }
    if grant == "client_credentials":
        granted["signature"] = base64.b64encode(secrets.token_bytes(32)).decode()
        granted["issued_at"] = str(int(store.now().timestamp() * 1000))
    return Answer(200, granted)


def key_pair(store: Store) -> dict[str, str]:
    """The key pair of the app's certificate as PEM: created at the first call and kept by the org."""
    pair: dict[str, str] | None = store.setting("certificate")
    if pair is None:
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pair = {
            "private_key": private.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ).decode(),
            "public_key": private.public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            .decode(),
        }
        store.set("certificate", pair)
    return pair


def set_certificate(store: Store, public_key: str) -> None:
    """Uploads another public key (PEM). Raises ValueError unless it is an RSA key."""
    if not isinstance(serialization.load_pem_public_key(public_key.encode()), rsa.RSAPublicKey):
        raise ValueError("not an RSA key")
    store.set("certificate", {"public_key": public_key})


def _check_secret(form: Mapping[str, Any], authorization: str) -> None:
    key, secret = str(form.get("client_id", "")), str(form.get("client_secret", ""))
    if authorization.lower().startswith("basic "):
        try:
            key, _, secret = base64.b64decode(authorization[6:], validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            key, secret = "", ""
    if key != CONSUMER_KEY:
        raise _Refused("invalid_client_id", "client identifier invalid")
    if not secrets.compare_digest(secret.encode(), CONSUMER_SECRET.encode()):
        raise _Refused("invalid_client", "invalid client credentials")


def _check_assertion(store: Store, assertion: str, base_url: str) -> None:
    """Raises _Refused unless the assertion is signed RS256 by the app's key, names the app, a permitted user and this
    org, and expires within the next `_LIFETIME` seconds."""
    invalid = _Refused("invalid_grant", "invalid assertion")
    try:
        # A text as exp is accepted, too: simple-salesforce sends one.
        claims = json.loads(jwt.api_jws.decode(assertion, key_pair(store)["public_key"], algorithms=["RS256"]))
        issuer, user, audience, expires = (claims[name] for name in ("iss", "sub", "aud", "exp"))
        left = float(expires) - store.now().timestamp()
    except (jwt.PyJWTError, ValueError, KeyError, TypeError) as error:
        raise invalid from error
    if issuer != CONSUMER_KEY:
        raise _Refused("invalid_client_id", "client identifier invalid")
    if audience not in (_LOGIN, base_url):
        raise _Refused("invalid_grant", "audience is invalid")
    if left <= 0:
        raise _Refused("invalid_grant", "expired authorization code")
    if left > _LIFETIME:
        raise invalid
    found = store.db.execute("SELECT Id, IsActive FROM User WHERE Username = ?", (str(user),)).fetchone()
    if not found or found["Id"] != INTEGRATION_USER:
        raise _Refused("invalid_grant", "user hasn't approved this consumer")
    if not found["IsActive"]:
        raise _Refused("invalid_grant", "inactive user")
