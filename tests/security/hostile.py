"""Two hundred account names nobody would like to meet, the same at every run."""

# ruff: noqa: E501 - attacks are read side by side

from __future__ import annotations

import random

ESC, CSI, OSC = "\x1b", "\x9b", "\x1b]0;owned\x07"
BIDI = "\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
HIDDEN = "\u200b\u200c\u200d\u2060\ufeff\u00ad\u180e\U000e0041"

ATTACKS = (
    # what Slack acts on
    "<!channel> come here", "<!here|quiet>", "<!everyone>", "<@U0001>", "<#C0ALERTS>", "<https://evil.example|Acme>",
    "<!subteam^S1>", "*bold* _it_ ~gone~ `code` ```pre```", "&lt;!channel&gt;", "> quoted", "@channel", ":rotating_light:",
    "https://evil.example/login", "mailto:boss@evil.example", "<mailto:x@evil.example|Acme>",
    # what a terminal acts on
    f"{ESC}[2J{ESC}[HAcme", f"Acme{ESC}[31m red", f"{OSC}Acme", f"{CSI}31mAcme", "Acme\x08\x08\x08\x08Evil", "Acme\rEvil",
    f"{ESC}]8;;https://evil.example{ESC}\\Acme{ESC}]8;;{ESC}\\", "[red]Acme[/red]", "[link=https://evil.example]Acme[/link]",
    "[/]", "[bold", "\x07\x07\x07", f"{ESC}P1$r{ESC}\\",
    # lines and subjects
    "Acme\nSubject: pay now", "Acme\r\n\r\nFIRST MESSAGE (yours to change)\npay now", "Acme\u2028next", "Acme\u2029next",
    "Acme\x0bnext\x0cpage", "Acme\x85next", "[Withdrawn] Acme", "[Released] [Expired] ", "\tAcme\t",
    # order and disguise
    "Acme \u202egpj.exe", f"{BIDI}Acme{BIDI}", f"A{HIDDEN}c{HIDDEN}me", "\u202e\u202e\u202e", HIDDEN, "Аcme (Cyrillic)",
    "ﷺ" * 40, "A" + "\u0301" * 5_000, "Z" + "\u0335\u0336\u0337" * 2_000, "👩‍👩‍👧‍👦" * 60, "🏳️‍🌈 Acme", "🇩🇪" * 100, "\u0301\u0301",
    # spreadsheets
    "=cmd|' /C calc'!A0", "=HYPERLINK(\"https://evil.example\",\"Acme\")", "+1+1", "-2+3", "@SUM(1)", "\t=1+1", "\r=1+1",
    "=1+1\";\"x", "|calc", "%0A=1+1", '","=1+1",', "Acme,Inc", 'Acme "the" Company', "'=1+1",
    # databases
    "Robert'); DROP TABLE handoffs;--", "' OR '1'='1", "\\' OR Id != null", "O'Neil & Sons", "Acme' LIMIT 0", "x\\", "\\",
    "a%' OR Name LIKE '%", "{{7*7}}", "${7*7}", "#{7*7}", "%(name)s", "{name}", "{0.__class__}", "%s%n%x", "$(id)", "`id`",
    "{% for x in () %}", "{usage}", "{product}", ":name", "?1",
    # pages
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\"><svg/onload=alert(1)>", "javascript:alert(1)",
    "</title><script>1</script>", "<!--", "]]>", "&#x3c;script&#x3e;", "<a href='//evil.example'>x</a>", "<style>*{}</style>",
    # nothing, and too much
    "", " ", "\u00a0", "\u3000", "null", "None", "NaN", "N/A", "0", "-1", "true", "\x00", "Ac\x00me", "\ud800", "Acme\udfff!",
    "\ud83d", "\ufffe\uffff", "\ufdd0", "\ue000\uf8ff", "\U000f0000", "../../etc/passwd", "..\\..\\", "CON", "a/b/c",
    "x" * 10_000_000, "<!channel>" * 1_000_000, "\n" * 10_000_000, "\u202e" * 3_000_000 + "x", "é" * 5_000_000,
    "# heading", "- item", "1. item", "---", "~~~", "[a](https://evil.example)", "![a](https://evil.example/x.png)",
)  # fmt: skip


def names(count: int = 200, seed: int = 20) -> list[str]:
    """The attacks, then mixtures of them."""
    chosen = random.Random(seed)
    short = [attack for attack in ATTACKS if 0 < len(attack) < 200]
    made = list(ATTACKS[:count])
    while len(made) < count:
        made.append(chosen.choice(["", " ", "\n", "\u202e"]).join(chosen.sample(short, 3)))
    return made
