"""Conversations in ShareGPT's form, with the `dataset_info.json` that LLaMA-Factory needs.

`human` and `gpt` alternate, `human` first, an even number of them; the system prompt has a column of its own.
`SharegptDatasetConverter` in `llamafactory/data/converter.py` empties any other row with a warning.
https://llamafactory.readthedocs.io/en/latest/getting_started/data_preparation.html
"""

import json
from collections.abc import Mapping
from typing import Any

from worker.formats.base import Format
from worker.formats.dataset import SPLITS, Dataset, Options
from worker.formats.rows import Row
from worker.formats.turns import UNREAD, from_user

_SIDES = {"user": "human", "assistant": "gpt"}


class Sharegpt(Format):
    """The format `sharegpt`: a row is the conversation from the first question to the last answer."""

    name = "sharegpt"
    purpose = "supervised fine-tuning with LLaMA-Factory"
    unread = UNREAD
    takes = frozenset({"system"})
    only_uncompressed = "LLaMA-Factory"

    def columns(self, options: Options) -> dict[str, Any]:
        """Return the columns of the rows."""
        return {"conversations": [{"from": "string", "value": "string"}], "system": "string"}

    def rows(self, snapshot: Mapping[str, Any], options: Options) -> list[Row]:
        """Return one row. `system` is always there, because `dataset_info.json` names it as a column."""
        turns = [{"from": _SIDES[each.role], "value": each.content} for each in from_user(snapshot)]
        return [{"conversations": turns, "system": options.system or ""}]

    def path(self, split: str, index: int, count: int) -> str:
        """Return the path of a data file. LLaMA-Factory reads all files of a folder, but supports no patterns."""
        name = super().path(split, index, count)
        return name if count == 1 else f"{split}/{name}"

    def extra_files(self, dataset: Dataset) -> dict[str, bytes]:
        """Return the dataset card, and `dataset_info.json` with one dataset for each split.

        The training split has the name of the dataset, the others `<name>_validation` and `<name>_test`. A compressed
        file is named as it will be without compression, because LLaMA-Factory cannot read compressed files.
        """
        entries = {
            dataset.name if split == SPLITS[0] else f"{dataset.name}_{split}": {
                "file_name": _plain(files[0].path) if len(files) == 1 else files[0].path.rpartition("/")[0],
                "formatting": "sharegpt",
                "columns": {"messages": "conversations", "system": "system"},
                "tags": {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"},
            }
            for split, files in dataset.files.items()
            if any(file.rows for file in files)
        }
        info = json.dumps(entries, indent=2, ensure_ascii=False).encode() + b"\n"
        return super().extra_files(dataset) | {"dataset_info.json": info}


def _plain(path: str) -> str:
    """Return the path of a file without the ending of its compression."""
    return path[: path.index(".jsonl") + len(".jsonl")]


FORMAT = Sharegpt()
