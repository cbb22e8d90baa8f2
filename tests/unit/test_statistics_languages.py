"""Detection of languages."""

import pytest

from worker.statistics import languages
from worker.statistics.languages import UNDETERMINED, Languages

TEXTS = {
    "en": ["Hello, I would like to cancel my order, please.", "Of course, could you tell me your order number?"],
    "de": ["Guten Tag, ich möchte meine Bestellung stornieren.", "Gern, wie lautet die Bestellnummer?"],
    "es": ["Hola, quiero cancelar mi pedido.", "¿Me puede dar el número del pedido, por favor?"],
    "he": ["שלום, אני רוצה לבטל את ההזמנה שלי"],
    "ja": ["こんにちは、注文をキャンセルしたいのですが。"],
}


@pytest.fixture(scope="module")
def detect() -> Languages:
    return Languages()


@pytest.mark.parametrize("code", TEXTS)
def test_language_of_a_conversation_is_detected(detect: Languages, code: str) -> None:
    assert detect(TEXTS[code]) == code


@pytest.mark.parametrize("texts", [[], [""], ["123 / 456"], ["👍", "👍🏽"], ["OK OK brb"]])
def test_texts_that_do_not_tell_are_undetermined(detect: Languages, texts: list[str]) -> None:
    assert detect(texts) == UNDETERMINED


def test_odd_texts_do_no_harm(detect: Languages) -> None:
    assert detect(["Good morning,\nhow are you\x00 today?", "\ud800 fine, thank you"]) == "en"
    assert detect(["I would like to know where my parcel is. " * 100_000]) == "en"


def test_without_the_library_nothing_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(languages, "find_spec", lambda _: None)
    assert Languages.if_installed() is None
