"""JSON to messages and back, as ProtoJSON has it.

What holds: names come as lowerCamelCase or as the contract writes them, and go as lowerCamelCase. What
cannot be read is named with its place. A name that the contract does not have is refused, unless the caller
speaks the Connect protocol: whoever generated their code from a newer contract is answered by an older
service, as over gRPC, and whoever writes by hand hears of a slip. An unknown word of an enum is refused
always: `consent` would be unsaid. Long messages are read and written one at a time, their lists in slices, so
that others are answered meanwhile; the text itself is read in one go.

What it does not do: look into payloads, which are any JSON.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tilbud.concurrency.time_slice import TimeSlice
from tilbud.domain.errors import InvalidField
from tilbud.domain.limits import Limits
from tilbud.transport.call import Method
from tilbud.v1.decisions_pb2 import FeatureValue

_WELL_KNOWN = "google.protobuf."
_KINDS = {
    FieldDescriptor.CPPTYPE_STRING: "must be text",
    FieldDescriptor.CPPTYPE_BOOL: "must be true or false",
    FieldDescriptor.CPPTYPE_DOUBLE: "must be a number",
    FieldDescriptor.CPPTYPE_FLOAT: "must be a number",
}
_MESSAGES = {
    "google.protobuf.Timestamp": 'must be a time such as "2026-11-29T12:00:00Z"',
    "google.protobuf.Duration": 'must be seconds such as "1.5s"',
}


class Json:
    """Messages as JSON; `lenient` passes over names that the contract does not have.

    Those that share `long` take turns with long ones.
    """

    def __init__(self, limits: Limits, *, lenient: bool, long: asyncio.Lock | None = None) -> None:
        self._limits = limits
        self._lenient = lenient
        self._long = long or asyncio.Lock()

    async def read(self, method: Method, data: bytes) -> Message:
        if len(data) > self._limits.message_bytes_max:
            raise too_large(f"{len(data):,}", self._limits)
        if len(data) < self._limits.json_sliced_bytes:
            return await self._read(method, data)
        async with self._long:
            return await self._read(method, data)

    async def write(self, method: Method, answer: Message | bytes) -> bytes:
        data = answer if isinstance(answer, bytes) else answer.SerializeToString()
        if len(data) < self._limits.json_sliced_bytes:
            return dumped(MessageToDict(method.response.FromString(data)))
        async with self._long:
            return await self._in_slices(method.response.FromString(data))

    async def _read(self, method: Method, data: bytes) -> Message:
        value = loaded(data, self._limits)
        message = method.request()
        lists = []
        if isinstance(value, dict):
            self._check(method.request.DESCRIPTOR, value, "")
            for field in _lists(method.request.DESCRIPTOR):
                for name in (field.json_name, field.name):
                    if isinstance(value.get(name), list):
                        lists.append((field, value.pop(name)))
                        break
        self._fill(message, value, "")
        time_slice = TimeSlice(self._limits.loop_slice_s)
        for field, items in lists:
            messages = getattr(message, field.name)
            for number, item in enumerate(items):
                if time_slice.expired():
                    await time_slice.yield_to_loop()
                place = f"{field.name}[{number}]"
                self._check(messages.add().DESCRIPTOR, item, place)
                self._fill(messages[-1], item, place)
        return message

    def _check(self, descriptor: Any, value: Any, path: str) -> None:
        """Refuse what the library would read: a field under both its names, more than any handler takes.

        The second before there is an object for each item, which would hold everybody up.
        """
        if not isinstance(value, dict):
            return
        fields = _fields(descriptor)
        for name, inner in value.items():
            if name not in fields:
                continue
            field, other, message = fields[name]
            if name != field and value.get(other) is not None and inner is not None:
                raise InvalidField(_below(path, field), f"cannot stand beside {name}")
            if message is not None and isinstance(inner, dict):
                self._check(message, inner, _below(path, field))
            elif isinstance(inner, dict | list) and len(inner) > self._limits.batch_items_max:
                problem = f"at most {self._limits.batch_items_max}, got {len(inner)}"
                raise InvalidField(_below(path, field), problem)

    def _fill(self, message: Message, value: Any, path: str) -> None:
        """Read a JSON value into an empty message that lies at `path` of the request."""
        if not isinstance(value, dict):
            raise InvalidField(path or "request", "must be an object, such as {}")
        try:
            ParseDict(value, message)
        except Exception as error:  # noqa: BLE001 - the library's errors are of many kinds
            cleaned = _Walk(self._limits, lenient=self._lenient).clean(message.DESCRIPTOR, value, path)
            message.Clear()
            try:
                ParseDict(cleaned, message)
            except Exception:  # noqa: BLE001 - likewise
                problem = f"is not a {message.DESCRIPTOR.full_name} message in JSON"
                raise InvalidField(path or "request", problem) from error

    async def _in_slices(self, message: Message) -> bytes:
        lists: list[bytes] = []
        time_slice = TimeSlice(self._limits.loop_slice_s)
        for field in _lists(message.DESCRIPTOR):
            items: list[bytes] = []
            for item in getattr(message, field.name):
                if time_slice.expired():
                    await time_slice.yield_to_loop()
                items.append(dumped(MessageToDict(item)))
            if items:
                lists.append(b"%b:[%b]" % (dumped(field.json_name), b",".join(items)))
                message.ClearField(field.name)
        others = dumped(MessageToDict(message))[1:-1]
        return b"{%b}" % b",".join([*([others] if others else []), *lists])


def dumped(value: Any) -> bytes:
    """Return the JSON text of a value."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def too_large(size: str, limits: Limits) -> InvalidField:
    """Return what a request is answered that holds `size` bytes, as gRPC's are."""
    return InvalidField(
        "request", f"holds {size} bytes, more than {limits.message_bytes_max:,}; send less at once"
    )


def loaded(data: bytes, limits: Limits) -> Any:
    """Return the value of a JSON text; raises InvalidField."""
    if len(data) > limits.json_counted_bytes and sum(map(data.count, b"{[:")) > limits.json_values_max:
        most = f"at most {limits.json_values_max:,} values"
        raise InvalidField("request", f"may have {most}; send less at once")
    try:
        return json.loads(data.decode(), object_pairs_hook=_object)
    except UnicodeDecodeError:
        raise InvalidField("request", "must be UTF-8") from None
    except json.JSONDecodeError as error:
        if not data:
            raise InvalidField("request", "is empty; send {} for a request without fields") from None
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidField("request", f"is not JSON: {where} cannot be read") from None
    except (ValueError, RecursionError):  # a number of thousands of digits, or lists in lists in lists
        raise InvalidField("request", "is JSON of numbers too long, or of too many levels") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        twice = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        raise InvalidField(twice[: Limits.text_chars_max], "stands twice in one object")
    return value


@lru_cache(maxsize=Limits.message_types_cached_max)
def _lists(descriptor: Descriptor) -> Sequence[FieldDescriptor]:
    """Return the fields of a message of the contract that are lists of its messages."""
    return [field for field in descriptor.fields if field.is_repeated and _is_message(field)]


@lru_cache(maxsize=Limits.message_types_cached_max)
def _fields(descriptor: Descriptor) -> Mapping[str, tuple[str, str, Descriptor | None]]:
    """Return by each name of a field the contract's, the other, and the one message that it holds."""
    fields: dict[str, tuple[str, str, Descriptor | None]] = {}
    for field in descriptor.fields:
        message: Any = field.message_type if _is_message(field) and not field.is_repeated else None
        fields[field.name] = (field.name, field.json_name, message)
        fields[field.json_name] = (field.name, field.name, message)
    return fields


def _is_message(field: FieldDescriptor) -> bool:
    """Say whether a field holds messages of the contract, which have fields of their own; no map."""
    message: Any = field.message_type
    return message is not None and not _is_map(field) and not message.full_name.startswith(_WELL_KNOWN)


def _is_map(field: FieldDescriptor) -> bool:
    message: Any = field.message_type
    return message is not None and bool(message.GetOptions().map_entry)


class _Walk:
    """Finds what is wrong with JSON that could not be read, or returns it without names that nobody knows."""

    def __init__(self, limits: Limits, *, lenient: bool) -> None:
        self._left = limits.text_walk_fields_max
        self._lenient = lenient

    def clean(self, descriptor: Any, value: Any, path: str) -> dict[str, Any]:
        """Return what a message's JSON has of the contract; raises InvalidField with the first bad place."""
        if not isinstance(value, dict):
            raise InvalidField(path or "request", f"must be an object, such as {_example(descriptor, value)}")
        names = {name: field for field in descriptor.fields for name in (field.json_name, field.name)}
        cleaned: dict[str, Any] = {}
        seen: dict[str, str] = {}  # by the one of several that may be set
        for name, inner in value.items():
            field = names.get(name)
            if field is None:
                if self._lenient:
                    continue
                known = ", ".join(field.name for field in descriptor.fields) or "none"
                raise InvalidField(_below(path, name), f"is no field here; the fields are {known}")
            place = _below(path, field.name)
            group = field.containing_oneof.name if field.containing_oneof is not None else field.name
            if group in seen and inner is not None:
                raise InvalidField(place, f"cannot stand beside {seen[group]}")
            if inner is not None:
                seen[group] = name
            cleaned[name] = self._value(field, inner, place)
        return cleaned

    def _value(self, field: FieldDescriptor, value: Any, place: str) -> Any:
        if value is None:
            return None
        if _is_map(field):
            if not isinstance(value, dict):
                raise InvalidField(place, "must be an object, such as {}")
            message: Any = field.message_type
            of_map = message.fields_by_name["value"]
            return {name: self._item(of_map, item, _below(place, name)) for name, item in value.items()}
        if field.is_repeated:
            if not isinstance(value, list):
                raise InvalidField(place, "must be a list, such as []")
            return [self._item(field, item, f"{place}[{number}]") for number, item in enumerate(value)]
        return self._item(field, value, place)

    def _item(self, field: FieldDescriptor, value: Any, place: str) -> Any:
        self._left -= 1
        if self._left < 0:
            raise InvalidField(place, "cannot be read, or something after it")
        if value is None:
            raise InvalidField(place, "must not be null")
        if _is_message(field):
            return self.clean(field.message_type, value, place)
        if not _fits(field, value):
            raise InvalidField(place, _expected(field))
        return value


def _example(descriptor: Any, value: Any) -> str:
    """Return an object to write instead of a value: of a feature's, the one with the value's own kind."""
    if descriptor.full_name != FeatureValue.DESCRIPTOR.full_name:
        return "{}"
    return {bool: '{"flag": true}', str: '{"category": "gold"}'}.get(type(value), '{"number": 42.5}')


def _below(path: str, name: str) -> str:
    name = name[: Limits.text_chars_max]
    return f"{path}.{name}" if path else name


def _fits(field: FieldDescriptor, value: Any) -> bool:
    """Say whether a value can be read as one of a field's."""
    if field.type == FieldDescriptor.TYPE_STRING:
        return (isinstance(value, str) and value.isprintable()) or _reads(field, value)
    return _reads(field, value)


def _reads(field: FieldDescriptor, value: Any) -> bool:
    of: Any = field.containing_type
    of_map = of.GetOptions().map_entry
    alone = GetMessageClass(of)()
    try:
        ParseDict({field.json_name: [value] if field.is_repeated and not of_map else value}, alone)
    except Exception:  # noqa: BLE001 - likewise
        return False
    return True


def _expected(field: FieldDescriptor) -> str:
    if field.enum_type is not None:
        return f"must be one of {', '.join(value.name for value in field.enum_type.values)}"
    if field.message_type is not None:
        return _MESSAGES.get(field.message_type.full_name, "cannot be read")
    return _KINDS.get(field.cpp_type, "must be a whole number")
