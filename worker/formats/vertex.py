"""Conversations for supervised tuning of Gemini.

A row has `contents`, a list of turns with a `role` (`user` or `model`) and `parts`. The system prompt is separate, in
`systemInstruction`.
https://cloud.google.com/vertex-ai/generative-ai/docs/models/gemini-supervised-tuning-prepare

Limits: 131,072 tokens per example; 1 GB and 1,000,000 examples per training file; 5,000 validation examples.
https://cloud.google.com/vertex-ai/generative-ai/docs/models/gemini-supervised-tuning
"""

from collections.abc import Iterator, Mapping
from typing import Any

from worker.formats.base import Format
from worker.formats.dataset import Dataset, Options
from worker.formats.rows import NotRepresentable, Row
from worker.formats.turns import UNREAD, from_user

MAX_TOKENS = 131_072
_BYTES_PER_TOKEN = 4
"""An estimate for UTF-8: about 4 characters of English are a token, and about 1 of Chinese or Japanese.
https://ai.google.dev/gemini-api/docs/tokens"""
_MAX_BYTES = MAX_TOKENS * _BYTES_PER_TOKEN
_MAX_FILE_BYTES = 1_000_000_000
_MAX_ROWS = {"train": 1_000_000, "validation": 5_000}
_ROLES = {"user": "user", "assistant": "model"}


class Vertex(Format):
    """The format `vertex`: a row is the conversation from the first question to the last answer."""

    name = "vertex"
    purpose = "supervised tuning of Gemini on Vertex AI"
    unread = UNREAD
    takes = frozenset({"system"})

    def columns(self, options: Options) -> dict[str, Any]:
        """Return the columns of the rows."""
        content = {"role": "string", "parts": [{"text": "string"}]}
        return ({"systemInstruction": content} if options.system else {}) | {"contents": [content]}

    def rows(self, snapshot: Mapping[str, Any], options: Options) -> list[Row]:
        """Return one row. Raises NotRepresentable as `too_long` if it probably has more than 131,072 tokens."""
        turns = from_user(snapshot)
        texts = [options.system or "", *(each.content for each in turns)]
        # A character has at most four bytes, so that few snapshots have to be encoded.
        if sum(map(len, texts)) > MAX_TOKENS and (size := sum(len(each.encode()) for each in texts)) > _MAX_BYTES:
            raise NotRepresentable(
                "too_long", f"Its text has {size} bytes, estimated as more than {MAX_TOKENS} tokens."
            )
        contents = [_content(_ROLES[each.role], each.content) for each in turns]
        head = {"systemInstruction": _content("system", options.system)} if options.system else {}
        return [head | {"contents": contents}]

    def warnings(self, dataset: Dataset) -> Iterator[str]:
        """Yield a sentence for each limit of Gemini's tuning that the files exceed."""
        yield from super().warnings(dataset)
        for split, files in dataset.files.items():
            for file in files:
                if file.bytes > _MAX_FILE_BYTES:
                    yield f"{file.path} has {file.bytes} bytes; Gemini's tuning accepts {_MAX_FILE_BYTES}."
            rows, limit = sum(file.rows for file in files), _MAX_ROWS.get(split)
            if limit and rows > limit:
                yield f"The split {split} has {rows} rows; Gemini's tuning accepts {limit}."


def _content(role: str, text: str) -> Row:
    return {"role": role, "parts": [{"text": text}]}


FORMAT = Vertex()
