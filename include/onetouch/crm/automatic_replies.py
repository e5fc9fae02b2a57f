"""Recognises e-mails that nobody wrote: out-of-office notes and other automatic replies. They are no answer.

By their headers where the CRM keeps them (RFC 3834, and what mail systems used before it), else by how the mail systems
of the most common languages begin the subject of such a reply.
"""

from __future__ import annotations

import re

_HEADERS = re.compile(
    r"^(auto-submitted:\s*auto-(replied|generated)|x-auto-?reply\b|x-autorespond\b|precedence:\s*auto_reply)",
    re.IGNORECASE | re.MULTILINE,
)

_SUBJECT = re.compile(
    r"^\s*("
    r"automatic reply|auto(matic)?[ -]?(reply|response|responder)|auto:|out[ -]of[ -](the[ -])?office|ooo\b|"
    r"i am (currently )?out of|away from (my|the) (desk|office)|on (annual|parental) leave|undeliver(able|ed)|"
    r"automatische antwort|abwesenheits?(notiz|assistent|nachricht)?\b|abwesend\b|"
    r"réponse automatique|absence du bureau|absent(e)? du bureau|"
    r"respuesta automática|fuera de la oficina|resposta automática|"
    r"risposta automatica|fuori (sede|ufficio)|automatisch antwoord|afwezig|autosvar|automatiskt svar|"
    r"automaattinen vastaus|automatyczna odpowiedź|automatická odpověď|"
    r"自動応答|自动回复|자동 회신"
    r")",
    re.IGNORECASE,
)


def is_automatic(subject: str | None, headers: str | None = None) -> bool:
    """Whether an e-mail with this subject, and these headers if they are known (one a line), was written by nobody."""
    return bool(_HEADERS.search(headers or "") or _SUBJECT.match(subject or ""))
