"""Writes the contract as a page to read: every service, message and enum, in the words of its comments.

What holds: the page says nothing that the proto files do not, in their order of lines; each name of a type of
the contract is a link to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

PACKAGE = "tilbud.v1"
FILES = ("decisions", "customers", "campaigns", "insights")  # as one meets them; any others come after
# Numbers of fields in descriptors, of which the path to a comment is made.
_SYNTAX, _MESSAGES, _ENUMS, _SERVICES = 12, 4, 5, 6
_FIELDS, _VALUES, _METHODS = 2, 2, 2
_INTRODUCTION = """# The contract

The services of Tilbud, package `tilbud.v1`. `make proto` writes this page from the comments in
[`proto/`](../proto).
"""

Comments = Mapping[tuple[int, ...], str]


def page(contract: FileDescriptorSet) -> str:
    """Return the page as Markdown; the descriptors must have their source info."""
    files = {file.name.rpartition("/")[2].removesuffix(".proto"): file for file in contract.file}
    own = {name: file for name, file in files.items() if file.package == PACKAGE}
    ordered = sorted(own, key=lambda name: (name not in FILES, [*FILES, name].index(name)))
    parts = [_INTRODUCTION, "\n".join(_contents(own[name]) for name in ordered)]
    parts += [part for name in ordered for part in _file(name, own[name])]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _contents(file: FileDescriptorProto) -> str:
    return "\n".join(
        f"- [{service.name}](#{service.name.lower()}): "
        + ", ".join(f"[{method.name}](#{method.name.lower()})" for method in service.method)
        for service in file.service
    )


def _file(name: str, file: FileDescriptorProto) -> Iterator[str]:
    comments = {tuple(each.path): _markdown(each.leading_comments) for each in file.source_code_info.location}
    yield f"## {name.capitalize()}"
    yield comments[_SYNTAX,]
    for number, service in enumerate(file.service):
        yield from _service(service, (_SERVICES, number), comments)
    for number, message in enumerate(file.message_type):
        yield from _message(message, (_MESSAGES, number), comments)
    for number, enum in enumerate(file.enum_type):
        yield from _enum(enum, (_ENUMS, number), comments)


def _service(service: ServiceDescriptorProto, path: tuple[int, ...], comments: Comments) -> Iterator[str]:
    yield f"### {service.name}"
    yield comments[path]
    for number, method in enumerate(service.method):
        yield f"#### {method.name}"
        yield f"{_named(method.input_type)} → {_named(method.output_type)}"
        yield comments[*path, _METHODS, number]


def _message(message: DescriptorProto, path: tuple[int, ...], comments: Comments) -> Iterator[str]:
    yield f"### {message.name}"
    yield comments[path]
    entries = {f".{PACKAGE}.{message.name}.{entry.name}": entry for entry in message.nested_type}
    fields = [
        _item(f"`{field.name}` {_type(field, message, entries)}", comments[*path, _FIELDS, number])
        for number, field in enumerate(message.field)
    ]
    yield "\n".join(fields)


def _enum(enum: EnumDescriptorProto, path: tuple[int, ...], comments: Comments) -> Iterator[str]:
    yield f"### {enum.name}"
    yield comments[path]
    yield "\n".join(
        _item(f"`{value.name}` = {value.number}", comments[*path, _VALUES, number])
        for number, value in enumerate(enum.value)
    )


def _item(term: str, text: str) -> str:
    return f"- {term}<br>\n" + "\n".join(f"  {line}".rstrip() for line in text.splitlines())


def _type(
    field: FieldDescriptorProto, message: DescriptorProto, entries: Mapping[str, DescriptorProto]
) -> str:
    """Say what a field holds, as the proto file does."""
    if entry := entries.get(field.type_name):
        key, value = entry.field
        return f"map of {_scalar(key)} to {_scalar(value)}"
    said = _scalar(field)
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"repeated {said}"
    if field.proto3_optional:
        return f"optional {said}"
    if field.HasField("oneof_index"):
        others = message.oneof_decl[field.oneof_index].name
        return f"{said}, one of `{others}`"
    return said


def _scalar(field: FieldDescriptorProto) -> str:
    if field.type_name:
        return _named(field.type_name)
    return FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()


def _named(type_name: str) -> str:
    name = type_name.removeprefix(".")
    own = name.removeprefix(f"{PACKAGE}.")
    return f"`{name}`" if own == name else f"[{own}](#{own.lower()})"


def _markdown(comment: str) -> str:
    """Return a comment without its margin; what Markdown would take for a tag is quoted."""
    lines = [line.removeprefix(" ") for line in comment.rstrip().splitlines()]
    return re.sub(r"<(?=\w)", r"\\<", "\n".join(lines))
