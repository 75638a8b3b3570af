"""Writes every key of campaign files and of `contact.yaml` into docs/campaigns.md, below its introduction.

    campaign_reference.py FILE

What holds: a key has its type, default and description from the JSON Schema, and an example from a sample. A
key that no sample uses, or a part of the schema without a heading here, ends it with an error.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter

import tilbud
from tilbud.campaigns.schema import campaign_schema, contact_schema
from tilbud.campaigns.strict_yaml import Tree
from tilbud.domain.campaign.fields import DurationUs, Id, Name
from tilbud.domain.campaign.languages import Language
from tilbud.domain.durations import HOURS_PATTERN
from tilbud.domain.limits import Limits

Schema = Mapping[str, Any]
Key = tuple[str, str]
"""A part of the schema, such as Offer ("": the whole), and a key of it."""
SAMPLES = Path(tilbud.__file__).with_name("samples")
CAMPAIGNS = ("homepage-hero", "newsletter", "shop", "hillstrom")
CONTACTS = ("contact",)
CAMPAIGN_PARTS = {
    "": "## The whole file",
    "ContextSection": "## Context",
    "TraitRule": "### A trait",
    "Offer": "## Offers",
    "Validity": "### Days",
    "Cap": "### A cap",
    "Fallback": "## Fallback",
    "RewardSection": "## Reward",
    "OutcomeRule": "### An outcome",
    "Exploration": "## Exploration",
    "Variants": "## Variants",
    "Control": "### Control",
    "Group": "## Groups",
    "Explanation": "## Explanations",
}
CONTACT_PARTS = {"": "## contact.yaml", "ChannelRule": "### A channel", "Cap": ""}  # "": it is there already
KINDS = {
    HOURS_PATTERN: "hours",
    **{
        TypeAdapter(kind).json_schema()["pattern"]: word
        for kind, word in ((DurationUs, "duration"), (Id, "id"), (Name, "name"), (Language, "language"))
    },
}
WORDS = {
    "string": "text",
    "number": "number",
    "integer": "whole number",
    "boolean": "true or false",
    "object": "map",
}
EXAMPLE_CHARS = 90
MARK = "<!-- From here on `make reference` writes, from the JSON Schemas and the samples. -->"


def page(written: str) -> str:
    """Return the page as it should be: its introduction as it is, and the rest from schemas and samples."""
    introduction, mark, _ = written.partition(MARK)
    assert mark, f"the page has the line {MARK}"
    campaigns, contacts = (
        [read(SAMPLES / f"{name}.yaml") for name in names] for names in (CAMPAIGNS, CONTACTS)
    )
    parts = [
        f"{introduction}{mark}",
        "\n".join(contents()),
        *described(campaign_schema(), CAMPAIGN_PARTS, campaigns),
        *described(contact_schema(), CONTACT_PARTS, contacts),
    ]
    return "\n\n".join(parts) + "\n"


def read(file: Path) -> object:
    """Return what a sample holds."""
    return Tree(file.name, "").read(file.read_bytes())


def contents() -> Iterator[str]:
    """Yield a link to each part."""
    for heading in filter(None, (*CAMPAIGN_PARTS.values(), *CONTACT_PARTS.values())):
        yield f"{'  ' * (heading.count('#') - 2)}- {linked(heading)}"


def linked(heading: str) -> str:
    """Return a link to a heading of the page."""
    title = heading.lstrip("# ")
    return f"[{title}](#{title.lower().replace(' ', '-').replace('.', '')})"


def described(schema: Schema, headings: Mapping[str, str], samples: Iterable[object]) -> Iterator[str]:
    """Yield each part of a schema that has a heading, and its keys."""
    sections = {"": schema, **schema["$defs"]}
    assert sections.keys() == headings.keys(), "every part of the schema has a place on the page"
    examples: dict[Key, object] = {}
    for sample in samples:
        for key, value in uses(schema, schema, sample):
            examples.setdefault(key, value)
    for section, heading in headings.items():
        if heading:
            yield heading
            yield sections[section]["description"]
            yield "\n".join(
                item(name, below, sections[section], examples[section, name])
                for name, below in sections[section]["properties"].items()
            )


def uses(schema: Schema, root: Schema, value: object, section: str = "") -> Iterator[tuple[Key, object]]:
    """Yield each key that a value has by its schema, with what it has there."""
    if "$ref" in schema:
        section = section_of(schema)
        schema = root["$defs"][section]
    for either in schema.get("anyOf", ()):
        yield from uses(either, root, value, section)
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        for name, below in value.items():
            if name in properties:
                yield (section, name), below
            yield from uses(properties.get(name, of_map(schema)[1]), root, below)
    elif isinstance(value, list):
        for below in value:
            yield from uses(schema.get("items", {}), root, below)


def of_map(schema: Schema) -> tuple[str, Schema]:
    """Return the kind of a map's own words, and the schema of what they have."""
    for pattern, below in schema.get("patternProperties", {}).items():
        return KINDS[pattern], below
    below = schema.get("additionalProperties")
    return "text", below if isinstance(below, dict) else {}


def section_of(schema: Schema) -> str:
    """Return the part of the schema that a reference leads to."""
    return str(schema["$ref"].rpartition("/")[2])


def item(name: str, key: Schema, section: Schema, example: object) -> str:
    """Return what is said of a key."""
    facts = [typed(key)]
    if name in section.get("required", ()):
        facts.append("**required**")
    if "default" in key:
        facts.append(f"default `{flow(whole(key['default']))}`")
    lines = (
        f"- `{name}`: {', '.join(facts)}",
        key["description"],
        f"`{name}: {flow(example, EXAMPLE_CHARS)}`",
    )
    return "<br>\n  ".join(lines)


def typed(schema: Schema) -> str:
    """Return what may stand there, in words."""
    if "$ref" in schema:
        heading = CAMPAIGN_PARTS.get(section_of(schema)) or CONTACT_PARTS[section_of(schema)]
        return re.sub(r"\[An?\b", lambda article: article[0].lower(), linked(heading))
    if "anyOf" in schema:
        return " or ".join(typed(either) for either in schema["anyOf"] if either != {"type": "null"})
    if "enum" in schema:
        return " or ".join(f"`{word}`" for word in schema["enum"])
    if schema["type"] == "array":
        return f"list of {typed(schema['items'])}{counted(schema, 'Items')}"
    word, below = of_map(schema)
    if below:
        return f"map of {word} to {typed(below)}{counted(schema, 'Properties')}"
    return f"{named(schema)}{bounds(schema)}"


def named(schema: Schema) -> str:
    """Return the name of a kind of plain value."""
    if schema.get("format") == "date":
        return "day"
    return KINDS.get(schema.get("pattern", ""), WORDS[schema["type"]])


def counted(schema: Schema, things: str) -> str:
    """Return how many there may be; "": any number."""
    least, most = (schema.get(f"{end}{things}") for end in ("min", "max"))
    if most is None:
        return ""
    return f", {'exactly' if least == most else 'at most'} {most}"


def bounds(schema: Schema) -> str:
    """Return the limits of a number or a text that are not those of every one."""
    least, most = schema.get("minimum"), schema.get("maximum")
    if most is not None and most < Limits.number_abs_max:
        return f" from {least:g} to {most:g}"
    characters = schema.get("maxLength")
    usual = characters in (None, Limits.text_chars_max) or schema.get("pattern") in KINDS
    return "" if usual else f" of at most {characters} characters"


def whole(value: Any) -> Any:
    """Return a default as people write it: 0, not 0.0."""
    if isinstance(value, list):
        return [whole(below) for below in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def flow(value: object, room: int = sys.maxsize) -> str:
    """Return a value as YAML has it on one line; of what is longer than `room` the beginning."""
    if not isinstance(value, dict | list):
        listed = yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=sys.maxsize)
        return str(listed).strip()[1:-1]
    entries = value.items() if isinstance(value, dict) else (("", below) for below in value)
    parts: list[str] = []
    for name, below in entries:
        begun = f"{name}: " if name else ""
        part = f"{begun}{flow(below, room - len(begun))}"
        room -= len(part) + 2
        if parts and room < 0:
            parts.append("…")
            break
        parts.append(part)
    return ", ".join(parts).join("{}" if isinstance(value, dict) else "[]")


def main(arguments: list[str]) -> int:
    """Do what the command line asks; returns the exit status."""
    match arguments:
        case [file]:
            written = Path(file).read_text(encoding="utf-8")
            Path(file).write_text(page(written), encoding="utf-8")
            return 0
        case _:
            sys.stderr.write(__doc__ or "")
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
