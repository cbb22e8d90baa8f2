"""Test cases for an agent: the conversation up to the last answer, and that answer as the expected one.

One row serves three programs:

- Inspect reads `input`, `target`, `id` and `metadata`. https://inspect.aisi.org.uk/datasets.html
- DeepEval is told the keys: `add_goldens_from_jsonl_file(path, input_key_name="question",
  expected_output_key_name="target", additional_metadata_key_name="metadata")` for the last question alone, or
  `scenario_key_name="question", turns_key_name="input", expected_outcome_key_name="target"` for whole conversations.
  https://deepeval.com/docs/evaluation-datasets
- promptfoo reads `vars`, of which `messages` is a chat as JSON text, and `metadata`. It renders a prompt as a Nunjucks
  template again after it has inserted the variables, so `messages` must not have a tag.
  https://www.promptfoo.dev/docs/configuration/test-cases and `renderPrompt` in promptfoo's `src/evaluatorHelpers.ts`
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from worker.formats.base import Format
from worker.formats.columns import fit
from worker.formats.dataset import Options
from worker.formats.messages import CHAT, chat
from worker.formats.rows import NotRepresentable, Row
from worker.formats.turns import UNREAD, answered

_REFERENCES = ("file://", "package:")
_MARKS = ("{{", "{%", "{#", "#}")
_TAG = re.compile(r"\{(?=[{%#])|(?<=#)\}")
"""A brace that opens a tag of Nunjucks or ends a comment. The JSON of a chat has such a brace only within a text."""
_METADATA = {"quality": "string", "category": "string", "tags": ["string"], "contentHash": "string"}


class Eval(Format):
    """The format `eval`: a row is a test case for each conversation, without the system prompt of the tested agent."""

    name = "eval"
    version = 3
    purpose = "test cases for Inspect, DeepEval and promptfoo"
    unread = UNREAD
    only_uncompressed = "Inspect, DeepEval and promptfoo"

    def columns(self, options: Options) -> dict[str, Any]:
        """Return the columns of the rows."""
        return {
            "id": "string",
            "input": CHAT,
            "target": "string",
            "question": "string",
            "metadata": _METADATA,
            "vars": {"messages": "string", "expected": "string"},
        }

    def rows(self, snapshot: Mapping[str, Any], options: Options) -> list[Row]:
        """Return one row.

        Raises NotRepresentable as `file_reference` if promptfoo would take the answer for the name of a file or a
        package.
        """
        *context, answer = answered(snapshot)
        if answer.content.startswith(_REFERENCES):
            names = " or ".join(f"`{each}`" for each in _REFERENCES)
            raise NotRepresentable(
                "file_reference", f"The last answer begins with {names}, which promptfoo would load."
            )
        messages = chat(context, None)
        metadata = {name: fit(name, snapshot.get(name), kind) for name, kind in _METADATA.items()}
        return [
            {
                "id": fit("_id", snapshot.get("_id"), "string"),
                "input": messages,
                "target": answer.content,
                "question": context[-1].content,
                "metadata": metadata,
                "vars": {"messages": _inert(messages), "expected": answer.content},
            }
        ]


def _inert(messages: list[dict[str, Any]]) -> str:
    """Return the JSON of a chat without tags of Nunjucks: their braces are escaped, as JSON allows."""
    chat = json.dumps(messages, ensure_ascii=False)
    if not any(mark in chat for mark in _MARKS):  # most have none, and the replacement is slow
        return chat
    return _TAG.sub(lambda brace: f"\\u{ord(brace[0]):04x}", chat)


FORMAT = Eval()
