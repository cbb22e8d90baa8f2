"""Conversations as chat messages, for supervised fine-tuning.

- OpenAI: `{"messages": [{role, content}]}`, roles `system`, `user` and `assistant`; an assistant message may have the
  `weight` 0 or 1. https://platform.openai.com/docs/guides/supervised-fine-tuning and `FineTuneChatRequestInput` of
  https://github.com/openai/openai-openapi
- TRL: a conversational language-modeling dataset. https://huggingface.co/docs/trl/dataset_formats
- Axolotl: `type: chat_template`, whose default field is `messages`.
  https://docs.axolotl.ai/docs/dataset-formats/conversation.html

`messages` is the only column, because OpenAI accepts no others.
"""

from collections.abc import Mapping
from typing import Any

from worker.formats.base import Format
from worker.formats.dataset import Options
from worker.formats.rows import Row
from worker.formats.turns import UNREAD, Turn, answered

CHAT = [{"role": "string", "content": "string"}]
"""The column of a chat."""


class Messages(Format):
    """The format `messages`: a row is the conversation up to the last answer. A greeting of the platform stays."""

    name = "messages"
    purpose = "supervised fine-tuning with OpenAI, TRL or Axolotl"
    unread = UNREAD
    takes = frozenset({"system", "weight_bad"})

    def columns(self, options: Options) -> dict[str, Any]:
        """Return the columns of the rows."""
        return {"messages": [{**CHAT[0], "weight": "int64"}] if options.weight_bad else CHAT}

    def rows(self, snapshot: Mapping[str, Any], options: Options) -> list[Row]:
        """Return one row, `{messages: [{role, content}]}`. With `weight_bad`, every message has a `weight` as well."""
        messages = chat(answered(snapshot), options.system)
        if options.weight_bad:
            trained = 0 if snapshot.get("quality") == "bad" else 1
            for each in messages:
                each["weight"] = trained if each["role"] == "assistant" else 0
        return [{"messages": messages}]


def chat(turns: list[Turn], system: str | None) -> list[dict[str, Any]]:
    """Return turns as chat messages, after the system prompt if there is one."""
    head = [{"role": "system", "content": system}] if system else []
    return [*head, *({"role": each.role, "content": each.content} for each in turns)]


FORMAT = Messages()
