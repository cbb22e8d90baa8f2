"""Conversations for fine-tuning Amazon Nova on Bedrock.

The first turn is the user's, the last the assistant's, and reserved words must not occur anywhere in a prompt.
https://docs.aws.amazon.com/nova/latest/userguide/fine-tune-prepare-data-understanding.html
"""

from collections.abc import Mapping
from typing import Any

from worker.errors import InvalidRequest
from worker.formats.base import Format
from worker.formats.dataset import Options
from worker.formats.rows import NotRepresentable, Row
from worker.formats.turns import UNREAD, from_user

RESERVED = ("User:", "Bot:", "Assistant:", "System:", "<image>", "<video>", "[EOS]")
_VERSION = "bedrock-conversation-2024"


class Nova(Format):
    """The format `nova`: a row is the conversation from the first question to the last answer."""

    name = "nova"
    purpose = "fine-tuning of Amazon Nova on Bedrock"
    unread = UNREAD
    takes = frozenset({"system"})

    def columns(self, options: Options) -> dict[str, Any]:
        """Return the columns of the rows."""
        texts = [{"text": "string"}]
        system = {"system": texts} if options.system else {}
        return {"schemaVersion": "string"} | system | {"messages": [{"role": "string", "content": texts}]}

    def check(self, options: Options) -> None:
        """Raises InvalidRequest as well if the system prompt contains a reserved word."""
        super().check(options)
        if word := _reserved(options.system or ""):
            message = f"contains `{word}`, which Amazon Nova reserves; use another word"
            raise InvalidRequest([{"field": "system", "message": message}])

    def rows(self, snapshot: Mapping[str, Any], options: Options) -> list[Row]:
        """Return one row.

        Raises NotRepresentable as `reserved_word` if a turn contains a word that fails the training job.
        """
        turns = from_user(snapshot)
        for each in turns:
            if word := _reserved(each.content):
                raise NotRepresentable("reserved_word", f"A turn contains `{word}`, which Amazon Nova reserves.")
        system = {"system": [{"text": options.system}]} if options.system else {}
        messages = [{"role": each.role, "content": [{"text": each.content}]} for each in turns]
        return [{"schemaVersion": _VERSION} | system | {"messages": messages}]


def _reserved(text: str) -> str | None:
    return next((word for word in RESERVED if word in text), None)


FORMAT = Nova()
