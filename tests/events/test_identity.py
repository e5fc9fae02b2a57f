import pytest
from onetouch.events.identity import business_domain


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("acme.com", "acme.com"),
        ("Mail.EU.Acme.co.uk", "acme.co.uk"),
        ("acme.com.", "acme.com"),
        ("acme.example", "acme.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("gmail.com", None),
        ("GMAIL.com", None),
        ("googlemail.com", None),
        ("web.de", None),
        ("qq.com", None),
        ("yahoo.co.uk", None),
        ("co.uk", None),
        ("localhost", None),
        ("10.0.0.1", None),
        ("acme", None),
        ("acme..com", None),
        ("-acme.com", None),
        ("ac me.com", None),
        ("acme.com>", None),
        ("a" * 64 + ".com", None),
        (".".join(["a" * 60] * 5) + ".com", None),
        ("\u2024.\x00", None),
        ("", None),
    ],
)
def test_business_domain(host, domain):
    assert business_domain(host) == domain
