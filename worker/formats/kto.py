"""Rated conversations for Kahneman-Tversky optimization, which needs only good or bad ratings.

An unpaired preference dataset in TRL's conversational form, `prompt`, `completion` and `label`:
https://huggingface.co/docs/trl/dataset_formats#unpaired-preference
"""

from collections.abc import Mapping
from typing import Any

from worker.formats.base import Format
from worker.formats.dataset import Options
from worker.formats.messages import CHAT, chat
from worker.formats.rows import NotRepresentable, Row
from worker.formats.turns import UNREAD, answered


class Kto(Format):
    """The format `kto`: a row is the last answer, labelled with the snapshot's quality."""

    name = "kto"
    purpose = "preference tuning by good and bad ratings with TRL's KTO trainer"
    unread = UNREAD
    takes = frozenset({"system"})

    def columns(self, options: Options) -> dict[str, Any]:
        """Return the columns of the rows."""
        return {"prompt": CHAT, "completion": CHAT, "label": "bool"}

    def rows(self, snapshot: Mapping[str, Any], options: Options) -> list[Row]:
        """Return one row; `label` is true for the quality `good` and false for `bad`.

        Raises NotRepresentable for all others.
        """
        quality = snapshot.get("quality")
        if quality is None:
            raise NotRepresentable("not_rated", "The snapshot is not rated: `kto` needs the quality `good` or `bad`.")
        if quality not in ("good", "bad"):
            raise NotRepresentable("other_quality", "The quality is neither `good` nor `bad`.")
        messages = chat(answered(snapshot), options.system)
        return [{"prompt": messages[:-1], "completion": messages[-1:], "label": quality == "good"}]


FORMAT = Kto()
