"""What is wrong with a configuration, in one line: section, key, value, what is allowed. Never a secret."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from kueue.config_model import ConfigModel
from kueue.config_values import MAKE_SECRET
from kueue.text import visible

_SECRET_KEYS = ("shared_secret", "previous_secrets")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_LONGEST_VALUE = 60


def describe(error: ValidationError, values: dict[str, Any]) -> str:
    """The first fault in the order of the file, and how many more there are."""
    faults = error.errors(include_url=False)
    first = min(faults, key=lambda fault: _position(fault["loc"], values))
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return _line(first, values) + more


def _position(location: tuple[int | str, ...], values: Any) -> tuple[int, ...]:
    # Tables keep the order of the file; what is missing comes last in its table.
    position = []
    for part in location:
        if not isinstance(values, dict):
            break
        keys = list(values)
        position.append(keys.index(part) if part in keys else len(keys))
        values = values.get(part)
    return tuple(position)


def _line(fault: ErrorDetails, values: dict[str, Any]) -> str:
    *above, key = [str(part) for part in fault["loc"] if part != "[key]"] or [""]
    text = _text(fault)
    match fault["type"]:
        case "extra_forbidden":
            return f"{_place(above, key, values, known=False)}: {_unknown(above, key)}"
        case "missing" if key in ("common_settings", "shared_secret"):
            return f"[common_settings] shared_secret is missing; make one with: {MAKE_SECRET}"
        case "missing":
            return f"{_place(above, key, values)} is missing"
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"{_dotted([*above, key])} must be a section (a table): [{_dotted([*above, key])}]"
        case _ if not fault["loc"]:
            return text  # of the whole file; it names the place itself
        case _ if fault["loc"][-1] == "[key]":
            return f"[{_dotted(above)}] {_key(key)}: {text}"
        case _:
            return f"{_place(above, key, values)}: {text}"


def _text(fault: ErrorDetails) -> str:
    cause = fault.get("ctx", {}).get("error")
    return visible(str(cause if cause is not None else fault["msg"]))


def _place(above: Sequence[str], key: str, values: Any, *, known: bool = True) -> str:
    """`[section] key = value`, or without the value where it is missing, a table, or a secret: a text of an
    unknown key may be one, whose key is mistyped."""
    value = values
    for part in (*above, key):
        value = value.get(part) if isinstance(value, dict) else None
    if not above:
        return f"[{_key(key)}]" if isinstance(value, dict) else _key(key)
    named = f"[{_dotted(above)}] {_key(key)}"
    may_be_secret = key in _SECRET_KEYS or not (known or isinstance(value, int | float))
    if value is None or isinstance(value, dict) or may_be_secret:
        return named
    return f"{named} = {_shown(value)}"


def _shown(value: Any) -> str:
    """A value as TOML has it, shortened."""
    match value:
        case bool():
            text = "true" if value else "false"
        case str():
            text = json.dumps(value[: _LONGEST_VALUE + 1], ensure_ascii=False)
        case int() if abs(value) >= 10**_LONGEST_VALUE:
            text = "(a number of very many digits)"
        case list():
            text = f"[{', '.join(map(_shown, value[:_LONGEST_VALUE]))}]"
        case _:
            text = str(value)
    text = visible(text)
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "…"


def _dotted(keys: Sequence[str]) -> str:
    return ".".join(map(_key, keys))


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else visible(json.dumps(key, ensure_ascii=False))


def _unknown(above: Sequence[str], key: str) -> str:
    """Where an unknown key may belong."""
    known = _keys_of(above)
    for section, field in ConfigModel.model_fields.items():
        model = _model_of(field.annotation)
        if model is not None and key in model.model_fields:
            return f"not known here; it belongs in [{section}]"
    close = difflib.get_close_matches(key, known, 1)
    if close:
        return f"not known; did you mean {close[0]}?"
    if not above and known:
        return f"not known; the sections are {', '.join(known)}"
    nearest = difflib.get_close_matches(key, known, 1, cutoff=0.0)
    return f"not known; the nearest is {nearest[0]}" if nearest else "not known"


def _keys_of(above: Sequence[str]) -> list[str]:
    model: type[BaseModel] | None = ConfigModel
    for part in above:
        if model is None:
            return []
        field = model.model_fields.get(part)
        if field is not None:
            model = _model_of(field.annotation)
        # Otherwise a pattern below `hosts`: the model is that of the table's values already.
    return list(model.model_fields) if model is not None else []


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds: itself, optional, or as the values of a table."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None
