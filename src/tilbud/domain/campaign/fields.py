"""What the sections of campaign files and of `contact.yaml` are made of: names, words, numbers, durations.

What holds: a value that passed here is small and clean (text short and in NFC, numbers finite and within
float32, durations at most 400 days), and what it was made from is in the JSON Schema as people write it.
A key that stands without a value is refused, not taken for one that is absent. Which keys there are is the
business of `sections.py`, `offer.py`, `campaign.py` and `contact_policy.py`.
"""

from __future__ import annotations

import ast
import json
import math
from datetime import date
from inspect import getsource
from itertools import pairwise
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import no_info_before_validator_function

from tilbud.domain.durations import DURATION_PATTERN, parse_duration_us
from tilbud.domain.limits import Limits
from tilbud.domain.text import UNCLEAN, is_clean, nfc

_NO_JSON = "must be plain JSON"
_EXACT_INT_MAX = 2**53  # google.protobuf.Struct has no other number than a float64


class Section(BaseModel):
    """A map of keys: frozen, and without keys it does not know.

    The text below a key in its class is its description in the JSON Schema, for whoever writes a file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, strict=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Say in the JSON Schema too what each key is for, which defaults may be written, and what is closed.

        A map whose keys have a pattern has no other keys. Titles made of names say nothing and are left out.
        """
        schema = handler(core)
        resolved = handler.resolve_ref_schema(schema)
        resolved.pop("title", None)
        properties = resolved.get("properties", {})
        descriptions = _descriptions(cls)
        for name, field in cls.model_fields.items():
            key = properties[field.alias or name]
            key.pop("title", None)
            key["description"] = descriptions[name]
            if key.get("default", ()) in (None, ""):  # which say in Python that the key is not there
                del key["default"]
        _close_maps(properties)
        return schema


def _descriptions(section: type[BaseModel]) -> dict[str, str]:
    """Return the text below each field, by its name.

    It is read from the source when somebody asks for the schema: pydantic would do so at every start.
    """
    texts: dict[str, str] = {}
    for base in reversed(section.__mro__[: section.__mro__.index(Section)]):
        [written] = ast.parse(getsource(base)).body
        assert isinstance(written, ast.ClassDef), "what a class is made of"
        for line, below in pairwise(written.body):
            match line, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    texts[name] = " ".join(text.split())
    return texts


def _close_maps(schema: object) -> None:
    if isinstance(schema, dict):
        if "patternProperties" in schema:
            schema["additionalProperties"] = False
        for below in schema.values():
            _close_maps(below)
    elif isinstance(schema, list):
        for below in schema:
            _close_maps(below)


class Misplaced(PydanticCustomError):
    """A problem found by looking at several keys; `path` leads from the validator to the one at fault."""

    def __new__(cls, path: tuple[str | int, ...], problem: str) -> Self:
        """Build the error pydantic understands, with the path in its context."""
        return super().__new__(cls, "misplaced", "{problem}", {"path": path, "problem": problem})


def clean(text: str) -> str:
    """Return `text` if nothing in it is a control character or none at all; ValueError otherwise."""
    if not is_clean(text):
        raise ValueError(UNCLEAN)
    return text


def composed(value: object) -> object:
    """Return text in NFC, as calls are read, and anything else as it is."""
    return nfc(value, Limits.sentence_chars_max) if isinstance(value, str) else value


def _at_most_400_days(duration_us: int) -> int:
    if duration_us > 400 * 86_400_000_000:
        raise ValueError("must be at most 400d")
    return duration_us


def _not_zero(duration_us: int) -> int:
    if not duration_us:
        raise ValueError("must be longer than 0s")
    return duration_us


def _whole(value: object) -> object:
    """JSON has one kind of number: 3.0 is 3."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def listed(value: object) -> object:
    """YAML has lists where frozen models want tuples."""
    return tuple(value) if isinstance(value, list) else value


def _given(value: object) -> object:
    if value is None:
        raise ValueError("has no value; write one, or remove the key")
    return value


def different(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return `words` if none stands twice; ValueError otherwise."""
    if len(set(words)) != len(words):
        raise ValueError("a word is listed twice")
    return words


def check_payload(payload: dict[str, Any]) -> dict[str, Any]:
    """Return a payload if it can be sent unchanged; Misplaced at what cannot, ValueError where it is much."""
    _check_json(payload, ())
    size = len(json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode())
    if size > Limits.payload_bytes_max:
        raise ValueError(f"at most {Limits.payload_bytes_max} bytes of JSON, got {size}")
    return payload


def _check_json(value: object, path: tuple[str | int, ...]) -> None:
    """Raise Misplaced at the first value that google.protobuf.Struct cannot send as it is."""
    if isinstance(value, dict | list):
        if len(path) >= Limits.payload_levels_max:
            raise Misplaced(path, f"{_NO_JSON}, at most {Limits.payload_levels_max} deep")
        below = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in below:
            if isinstance(value, dict) and not isinstance(key, str):
                raise Misplaced(path, f"{_NO_JSON}, whose keys are text")
            _check_json(item, (*path, key))
    elif isinstance(value, int):  # true and false as well
        if abs(value) > _EXACT_INT_MAX:
            raise Misplaced(path, f"{_NO_JSON}; put whole numbers beyond 2^53 in quotes")
    elif isinstance(value, date):
        raise Misplaced(path, f"{_NO_JSON}; put dates in quotes, such as {str(value)!r}")
    elif not (value is None or isinstance(value, str) or (isinstance(value, float) and math.isfinite(value))):
        raise Misplaced(path, f"{_NO_JSON}: text, finite numbers, true, false, null, lists and maps")


class _Given:
    """See `Given`."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_before_validator_function(_given, handler(source))

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core)
        kinds = [kind for kind in schema.pop("anyOf", ()) if kind != {"type": "null"}]
        return {**schema, **kinds[0]} if len(kinds) == 1 else schema


Given = _Given()
"""For a key that may be left out, but not stand empty: an empty `sensitive_topic:` must not mean none."""
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=128)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=64)]
Word = Annotated[str, BeforeValidator(composed), Field(min_length=1, max_length=128), AfterValidator(clean)]
Sentence = Annotated[
    str,
    BeforeValidator(composed),
    Field(min_length=1, max_length=Limits.sentence_chars_max),
    AfterValidator(clean),
]
Finite = Annotated[float, Field(allow_inf_nan=False, ge=-Limits.number_abs_max, le=Limits.number_abs_max)]
Words = Annotated[tuple[Word, ...], BeforeValidator(listed, json_schema_input_type=list[Word])]
GraceUs = Annotated[
    int,
    BeforeValidator(
        parse_duration_us, json_schema_input_type=Annotated[str, Field(pattern=DURATION_PATTERN)]
    ),
    AfterValidator(_at_most_400_days),
]
DurationUs = Annotated[GraceUs, AfterValidator(_not_zero)]
Payload = Annotated[dict[str, Any], AfterValidator(check_payload)]


class Cap(Section):
    """How often at most one customer may be shown something."""

    times: Annotated[int, Field(ge=1, le=Limits.cap_times_in_files_max), BeforeValidator(_whole)]
    """How many times at most one customer is shown it within `per`."""
    per_us: DurationUs = Field(alias="per")
    """The stretch of time that is looked back over, such as `24h` or `7d`; at most `400d`."""


Caps = Annotated[
    tuple[Cap, ...],
    BeforeValidator(listed, json_schema_input_type=Annotated[list[Cap], Field(max_length=Limits.caps_max)]),
    Field(max_length=Limits.caps_max),
]
