"""Secrets are taken out of what is logged or printed: by their place, by their form, by value.

By place: the password of a URL, what follows `password=` or `X-Amz-Signature=`, a value under such
a key. By form: keys of AWS, bearer tokens, JSON web tokens, private keys. By value: the secrets of
the settings and of the environment, wherever they turn up. What is no secret stays as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote, quote_plus

from pydantic import BaseModel, SecretStr
from structlog.typing import EventDict

MASK: Final = "***"
_SHORTEST: Final = 6
"""Characters of a secret that is masked by value: a shorter one is part of ordinary words."""

_NAMES: Final = (
    r"password|passwd|secret|token|api[_-]?key|access[_-]?key(?:[_-]?id)?|"
    r"authorization|private[_-]?key|X-Amz-Signature|X-Amz-Credential"
)
_SECRET_NAME: Final = re.compile(rf"(?:{_NAMES})$", re.IGNORECASE)
_ANY_NAME: Final = re.compile(_NAMES, re.IGNORECASE)

# Repetitions are bounded, so that a long text without a secret costs time in proportion.
_NAMED: Final = tuple(
    re.compile(rf"((?:{_NAMES}){after}", re.IGNORECASE)
    for after in (
        r"[\"']?\s{0,9}=\s{0,9}\")[^\"]+",
        r"[\"']?\s{0,9}=\s{0,9}')[^']+",
        r"=)(?!\*\*\*)[^\s&\"',;)\]}]+",
        r"\s{1,9}=\s{0,9})[^\s\"',;)\]}]+",
        r"\"\s{0,9}:\s{0,9}\")(?:[^\"\\]|\\.)+",
        r"'\s{0,9}:\s{0,9}')(?:[^'\\]|\\.)+",
    )
)
_PLACES: Final = (
    # A URL's password may hold an @ that nobody quoted; host:port is no user:password.
    re.compile(
        r"(://[^\s/?#:@\[\"']{0,200}:)(?!\d{1,5}(?:[/?#,;\s\"')\]]|$))[^\s\"'<>]{0,500}(?=@)"
    ),
    re.compile(
        r"((?:authorization|x-api-key|x-amz-security-token):\s{0,9})[^\r\n]+", re.IGNORECASE
    ),
    re.compile(r"(\bbearer\s{1,9})(?=\S{0,64}[\d._~+/=-]|\S{16})[^\s\"',;]+", re.IGNORECASE),
)
_FORMS: Final = (
    re.compile(r"(?<![A-Z0-9])(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Z0-9])"),
    # A secret key of AWS: 40 characters of all three kinds; a hash in hexadecimal is none.
    re.compile(
        r"(?<![\w/+.-])(?=[a-z0-9/+]{0,39}[A-Z])(?=[A-Z0-9/+]{0,39}[a-z])(?=[A-Za-z/+]{0,39}\d)"
        r"[A-Za-z0-9/+]{40}(?![\w/+=-]|\.\w)"
    ),
    re.compile(r"(?<![\w/+=])(?:IQoJ|FwoG|FQoG)[\w/+=%]{60,}"),
    re.compile(r"(?<![\w-])eyJ[\w-]{6,}\.[\w-]+\.[\w-]*"),
    re.compile(
        r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,20}KEY-----|$)",
        re.DOTALL,
    ),
)


class Redactor:
    """A processor of structlog that knows some secrets, and what others look like."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: set[str] = set()
        self._values: re.Pattern[str] | None = None
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Mask these, too, wherever they turn up."""
        self._secrets.update(each for each in secrets if len(each) >= _SHORTEST)
        written = {form for each in self._secrets for form in _as_written(each)}
        longest_first = sorted(written, key=len, reverse=True)
        self._values = re.compile("|".join(map(re.escape, longest_first))) if written else None

    def __call__(self, _: object, __: str, entry: EventDict) -> EventDict:
        """See `structlog.typing.Processor`."""
        return {key: self._field(key, value) for key, value in entry.items()}

    def text(self, text: str) -> str:
        """The text without its secrets."""
        if self._values:
            text = self._values.sub(MASK, text)
        named = _NAMED if _ANY_NAME.search(text) else ()
        for place in (*named, *_PLACES):
            text = place.sub(rf"\g<1>{MASK}", text)
        for form in _FORMS:
            text = form.sub(MASK, text)
        return text

    def _field(self, key: object, value: Any) -> Any:
        secret = value not in (None, "") and not isinstance(value, bool)
        if secret and isinstance(key, str) and _SECRET_NAME.search(key):
            return MASK
        return self.value(value)

    def value(self, value: Any) -> Any:
        """The value without its secrets. What is neither text, number nor collection is text."""
        if isinstance(value, str):
            return self.text(value)
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, Mapping):
            return {self.value(key): self._field(key, each) for key, each in value.items()}
        if type(value) in (list, tuple, set, frozenset):
            return [self.value(each) for each in value]
        return self.text(str(value))


def secrets_of(settings: BaseModel) -> set[str]:
    """Secrets that settings hold, those within their addresses as well."""
    return set(_secrets_in(settings))


def secrets_of_environment(environment: Mapping[str, str]) -> set[str]:
    """Values of variables whose name says that they are secret."""
    found = {value for name, value in environment.items() if _SECRET_NAME.search(name)}
    return found | {each for value in environment.values() for each in _in_address(value)}


def _secrets_in(value: Any) -> Iterable[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secrets_in(getattr(value, name))
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _secrets_in(each)
    elif isinstance(value, str):
        yield from _in_address(value)


_USER_INFO: Final = re.compile(r"://[^\s/?#:@\[]{0,200}:([^\s/?#]{1,500})@")


def _in_address(text: str) -> list[str]:
    return _USER_INFO.findall(text) if "://" in text else []


def _as_written(secret: str) -> set[str]:
    """How it may turn up: as it is, in a URL, in a Python or JSON string."""
    quoted = {quote(secret, safe=""), quote_plus(secret), quote(secret)}
    return {secret, *quoted, repr(secret)[1:-1], json.dumps(secret)[1:-1]}
