"""A reader finds the text that is nearest to their language."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tilbud.domain.campaign.languages import in_language
from tilbud.domain.language_tags import canonical

TAGS = st.sampled_from(["da", "da-DK", "en", "en-GB", "zh", "zh-Hant", "zh-TW", "nb", "nn", "no", "iw"]).map(
    canonical
)


@given(st.dictionaries(TAGS, st.integers(0), min_size=1), TAGS | st.text(max_size=20), TAGS)
def test_every_reader_reads_something(texts, language, fallback):
    """A text in the very language is found; whatever the language, some text is, in any case and spelling."""
    texts = {**texts, fallback: -1}
    found = in_language(texts, language, fallback)
    assert found in texts.values()
    if canonical(language) in texts:
        assert found == texts[canonical(language)]
    if language.isascii():
        assert in_language(texts, language.upper().replace("-", "_"), fallback.upper()) == found


def test_no_language_reads_the_fallback():
    """Where no language is known, or none that is near, the fallback is read."""
    assert in_language({"da": 1, "en": 2}, "", "EN") == 2
    assert in_language({"da": 1, "en": 2}, "C.UTF-8", "en") == 2
    assert in_language({"da": 1, "en": 2}, "th", "en") == 2
