"""The engine that asks Presidio. Skipped without `pip install presidio-analyzer` and a model of spaCy for English."""

import pytest

from worker.redaction.redactor import Part, Redactor

MODELS = ("en_core_web_lg", "en_core_web_sm")


@pytest.fixture(scope="module")
def redactor() -> Redactor:
    pytest.importorskip("presidio_analyzer")
    spacy = pytest.importorskip("spacy")
    installed = [model for model in MODELS if spacy.util.is_package(model)]
    if not installed:
        pytest.skip("no model of spaCy is installed")
    from worker.redaction.presidio import PresidioEngine

    kinds = ["email", "phone", "card", "iban", "ip", "name", "url_secret"]
    return Redactor(kinds, ["DE", "US"], PresidioEngine(model=installed[0]))


def test_texts_are_redacted_and_spellings_of_a_number_have_one_placeholder(redactor: Redactor) -> None:
    texts = [
        "Write to anna@example.com or call +49 30 901820, that is 030 901820.",
        "Card 4111 1111 1111 1111, IBAN DE89 3704 0044 0532 0130 00, from 192.0.2.44",
        "Nothing here, order 12345678, v1.2.3.4",
    ]
    assert redactor([Part(text) for text in texts]).texts == [
        "Write to [EMAIL_1] or call [PHONE_1], that is [PHONE_1].",
        "Card [CARD_1], IBAN [IBAN_1], from [IP_1]",
        texts[2],
    ]


def test_model_that_is_missing_is_named_and_not_downloaded() -> None:
    pytest.importorskip("presidio_analyzer")
    from worker.redaction.presidio import PresidioEngine

    with pytest.raises(ImportError, match="python -m spacy download no_such_model"):
        PresidioEngine(model="no_such_model")
