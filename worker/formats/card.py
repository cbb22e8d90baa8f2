"""Writes the dataset card, with which `datasets.load_dataset` opens the folder of an export. Pure.

https://huggingface.co/docs/hub/datasets-cards. The card begins with YAML. JSON is a subset of YAML, so the values are
written as JSON.
"""

import json
from collections.abc import Sequence
from typing import Any

from worker.formats.columns import Columns, to_features
from worker.formats.dataset import SPLITS, Dataset


def card(dataset: Dataset, columns: Columns, warnings: Sequence[str]) -> bytes:
    """Return the content of `README.md`: `configs` and `dataset_info` with the files, columns and rows of each split.

    Files without rows are left out.
    """
    files = {split: [file for file in dataset.files.get(split, ()) if file.rows] for split in SPLITS}
    files = {split: each for split, each in files.items() if each}
    size = sum(file.bytes for each in files.values() for file in each)
    head: dict[str, Any] = {
        "pretty_name": dataset.name,
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": [file.path for file in each]} for split, each in files.items()],
            }
        ],
        "dataset_info": {
            "config_name": "default",
            "features": to_features(columns),
            "splits": [
                {
                    "name": split,
                    "num_bytes": sum(file.bytes for file in each),
                    "num_examples": sum(file.rows for file in each),
                }
                for split, each in files.items()
            ],
            "download_size": size,
            "dataset_size": size,
        },
    }
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items()]
    rows = "\n".join(f"| {split} | {sum(file.rows for file in each)} |" for split, each in files.items())
    text = f"# {dataset.name}\n\n{dataset.description}\n\n| split | rows |\n|---|---:|\n{rows}\n"
    text += "".join(f"\n**{each}**\n" for each in warnings)
    return "\n".join(["---", *lines, "---", "", text]).encode()
