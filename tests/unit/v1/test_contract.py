"""The contract reads alike everywhere."""

from __future__ import annotations

import re

import pytest
from google.protobuf.descriptor import Descriptor, FileDescriptor

from tilbud.v1 import campaigns_pb2, customers_pb2, decisions_pb2, insights_pb2

FILES: list[FileDescriptor] = [
    each.DESCRIPTOR for each in (campaigns_pb2, customers_pb2, decisions_pb2, insights_pb2)
]
MESSAGES = [message for file in FILES for message in file.message_types_by_name.values()]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda each: str(each.name))
def test_no_field_repeats_its_message(message: Descriptor) -> None:
    """A campaign has an `id`, and an outcome of it a `name`, not a `campaign` and an `outcome`."""
    words = re.sub(r"(?<!^)(?=[A-Z])", "_", message.name).lower()
    assert not {words, f"{words}_id", f"{words}_name", words.rpartition("_")[2]} & set(message.fields_by_name)


@pytest.mark.parametrize("file", FILES, ids=lambda each: str(each.name))
def test_each_file_says_its_package_in_other_languages(file: FileDescriptor) -> None:
    """Go, Java and C# get one package each, named as the contract is; Java gets a file for each class."""
    options = file.GetOptions()
    assert options.go_package == "tilbud/v1;tilbudv1"
    assert (options.java_package, options.java_multiple_files) == ("tilbud.v1", True)
    assert options.csharp_namespace == "Tilbud.V1"
