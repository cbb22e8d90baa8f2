"""Conversations for fine-tuning with Mistral, as `mistral-common` validates them.

`MistralRequestValidator` in its mode `finetuning` wants an optional system message, then user and assistant messages,
none of the assistant's empty, and an assistant message at the end.
https://docs.mistral.ai/capabilities/finetuning and `mistral_common/protocol/instruct/validator.py`
"""

from collections.abc import Mapping
from typing import Any

from worker.formats.base import Format
from worker.formats.dataset import Options
from worker.formats.messages import CHAT, chat
from worker.formats.rows import Row
from worker.formats.turns import UNREAD, from_user


class Mistral(Format):
    """The format `mistral`: a row is the conversation from the first question to the last answer."""

    name = "mistral"
    purpose = "fine-tuning with Mistral"
    unread = UNREAD
    takes = frozenset({"system"})

    def columns(self, options: Options) -> dict[str, Any]:
        """Return the columns of the rows."""
        return {"messages": CHAT}

    def rows(self, snapshot: Mapping[str, Any], options: Options) -> list[Row]:
        """Return one row, `{messages: [{role, content}]}`."""
        return [{"messages": chat(from_user(snapshot), options.system)}]


FORMAT = Mistral()
