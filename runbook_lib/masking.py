"""Secrets by their looks: what is masked in any text before it reaches a screen or the disk.

The forms are those that the issuers document: AWS (access key ids), GCP, GitHub, Hugging Face, NGC,
Slack, JWT (RFC 7519), PEM (RFC 7468), passwords in URLs (RFC 3986) and in `Authorization`.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["MASK", "mask_secrets"]

MASK: Final = "[masked]"
# Each with one group before the secret that stays, so that a reader sees what was taken out.
FORMS: Final = (
    r"()\b(?:AKIA|ASIA|AROA|AIDA)[0-9A-Z]{16}\b",
    r"()\bhf_[A-Za-z0-9]{20,}\b",
    r"()\bnvapi-[A-Za-z0-9_-]{20,}",
    r"()\bAIza[0-9A-Za-z_-]{35}\b",
    r"()\bya29\.[0-9A-Za-z_-]{20,}",
    r"()\bgh[pousr]_[A-Za-z0-9]{36,}\b",
    r"()\bgithub_pat_[A-Za-z0-9_]{22,}\b",
    r"()\bxox[abprs]-[A-Za-z0-9-]{10,}",
    r"()\bsk-[A-Za-z0-9_-]{20,}",
    r"()\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",
    r"()-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[^-]{0,10000}(?:-----END [A-Z ]{0,30}PRIVATE KEY-----)?",
    r"(\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@]{0,100}:)[^\s/@]{1,200}(?=@)",
    r"(\bauthorization\W{1,4}(?:bearer|basic|token)\s{1,4})[^\s\"',;]{4,}",
    r"(\bbearer\s{1,4})[A-Za-z0-9._~+/-]{16,}=*",
    r"([?&](?:x-amz-(?:signature|credential|security-token)|sig|token|access_token|api_key)=)[^&\s\"']{6,}",
    (
        r"(\b(?:[a-z0-9_.-]{0,40}(?:secret|passw(?:or)?d|passphrase|api_?key|access_?key|account_?key"
        r"|private_?key|auth_?token|access_?token|session_?token|hf_token|ngc_api_key"
        r"|connection_?string)[a-z0-9_]{0,20})[\"']?\s{0,3}[=:]\s{0,3}[\"']?)"
        r"(?!\s|\[masked\]|none\b|null\b|true\b|false\b|\$|<)[^\s\"',;}]{6,}"
    ),
)
PATTERN: Final = tuple(re.compile(form, re.IGNORECASE) for form in FORMS)


def mask_secrets(text: str) -> str:
    """The text with whatever looks like a secret replaced by `[masked]`."""
    for pattern in PATTERN:
        text = pattern.sub(rf"\1{MASK}", text)
    return text
