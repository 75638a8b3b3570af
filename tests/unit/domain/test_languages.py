"""A reader finds the text that is nearest to their language."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tilbud.domain.languages import in_language

TAGS = st.lists(st.sampled_from(["da", "en", "zh", "hant", "tw", "x"]), min_size=1, max_size=3).map("-".join)


@given(st.dictionaries(TAGS, st.integers()), TAGS | st.text(max_size=20), TAGS)
def test_the_longest_beginning_of_a_language_is_found(texts, language, fallback):
    """The text is that of the longest whole part the language begins with, else the fallback's."""
    texts = {**texts, fallback: -1}
    parts = language.lower().split("-")
    wider = ["-".join(parts[:count]) for count in range(len(parts), 0, -1)]
    wanted = next((each for each in wider if each in texts), fallback)
    assert in_language(texts, language, fallback) == texts[wanted]
    assert in_language(texts, language.upper(), fallback.upper()) == in_language(
        texts, language.upper().lower(), fallback
    )


def test_no_language_reads_the_fallback():
    """Where no language is known the fallback is read."""
    assert in_language({"da": 1, "en": 2}, "", "EN") == 2
