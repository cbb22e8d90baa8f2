"""Reads exported files with a program of their readers. Runs in `.venv-judges`, which `make judges` creates.

    python tests/judges/judge.py PROGRAM FOLDER

The folder has one folder for each format. Prints how many rows the program read, by format, as JSON. Fails at the first
row that the program rejects or reads differently than it stands in the file.
"""

import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "DEEPEVAL_TELEMETRY_OPT_OUT": "YES"}

Row = dict[str, Any]
JSON_LINES = ("jsonl", "messages", "kto", "sharegpt", "mistral", "vertex", "nova", "eval")


def written(folder: Path, name: str) -> Iterator[tuple[Path, list[Row]]]:
    """The data files of a format with their rows, as Python's own JSON parser reads them."""
    for path in sorted((folder / name).rglob("*.jsonl")):
        with path.open(encoding="utf-8", newline="\n") as lines:
            yield path, [json.loads(each) for each in lines]


def rows(folder: Path, name: str) -> list[Row]:
    """All rows of a format, file by file."""
    return [row for _, each in written(folder, name) for row in each]


def same(read: Any, expected: Any, where: str) -> None:
    """Fails if a program read something else than was written."""
    if read != expected:
        raise SystemExit(f"{where}: read {str(read)[:500]!r} instead of {str(expected)[:500]!r}")


def judge_datasets(folder: Path) -> Counter[str]:
    """`datasets.load_dataset` opens the folder by its card: JSON Lines and Parquet hold the same snapshots."""
    from datasets import load_dataset

    counts: Counter[str] = Counter()
    by_id = {row["_id"]: row for row in rows(folder, "jsonl")}
    with tempfile.TemporaryDirectory() as cache:
        for name in (*JSON_LINES, "parquet"):
            if not rows(folder, "jsonl" if name == "parquet" else name):
                continue  # the card names no files
            loaded = load_dataset(str(folder / name), cache_dir=cache)
            for split, dataset in loaded.items():
                expected = [row for path, each in written(folder, name) if split in path.name for row in each]
                for number, row in enumerate(dataset):
                    wanted = _parquet_row(by_id[row["_id"]]) if name == "parquet" else expected[number]
                    same(row, _filled(wanted, row), f"{name} {split} {number}")
                counts[name] += len(dataset)
                if name != "parquet":
                    same(len(dataset), len(expected), f"{name} {split}: rows")
    return counts


def _filled(written: Any, read: Any) -> Any:
    """A written value with null for each field, at any depth, that only other rows have."""
    if isinstance(written, dict) and isinstance(read, dict):
        return written | {name: _filled(written.get(name), each) for name, each in read.items()}
    if isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        return [_filled(*pair) for pair in zip(written, read, strict=True)]
    return written


def _parquet_row(row: Row) -> Row:
    """The Parquet row of a snapshot in JSON: dates are moments, and messages have a role."""
    from datetime import datetime

    def moments(fields: Row) -> Row:
        return {
            name: moments(value)
            if isinstance(value, dict)
            else datetime.fromisoformat(value)
            if value and (name in {"timestamp", "at"} or name.endswith(("Date", "At")))
            else value
            for name, value in fields.items()
        }

    messages = [
        {"role": "assistant" if each["sender"] == "user" else "user"} | moments(each) for each in row["messages"]
    ]
    return moments(row) | {"messages": messages}


def judge_trl(folder: Path) -> Counter[str]:
    """TRL takes the rows for conversations, and applies a chat template (ChatML) to them."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast
    from trl.data_utils import apply_chat_template, is_conversational

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"?": 0}, unk_token="?")))
    tokenizer.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )

    def text(messages: list[Row]) -> str:
        return "".join(f"<|im_start|>{each['role']}\n{each['content']}<|im_end|>\n" for each in messages)

    counts: Counter[str] = Counter()
    for name in ("messages", "kto"):
        for row in rows(folder, name):
            same(is_conversational(row), True, f"{name}: conversational")
            applied = apply_chat_template(row, tokenizer)
            if name == "messages":
                same(applied["text"], text(row["messages"]), name)
            else:
                same(applied["prompt"] + applied["completion"], text(row["prompt"] + row["completion"]), name)
                same(applied["label"], row["label"], name)
            counts[name] += 1
    return counts


def judge_mistral(folder: Path) -> Counter[str]:
    """The validators of `mistral-common` for fine-tuning, of every tokenizer version, accept each row."""
    from mistral_common.protocol.instruct.request import ChatCompletionRequest
    from mistral_common.protocol.instruct.validator import ValidationMode, get_validator
    from mistral_common.tokens.tokenizers.base import TokenizerVersion

    validators = [get_validator(version, ValidationMode.finetuning) for version in TokenizerVersion]
    counts: Counter[str] = Counter()
    for row in rows(folder, "mistral"):
        request: Any = ChatCompletionRequest.model_validate(row)
        for validator in validators:
            validator.validate_request(request)
        read = [{"role": str(each.role), "content": each.content} for each in request.messages]
        same(read, row["messages"], "mistral")
        counts["mistral"] += 1
    return counts


def judge_llamafactory(folder: Path) -> Counter[str]:
    """LLaMA-Factory's parser reads `dataset_info.json`, and its converter keeps every turn."""
    from llamafactory_alone import SharegptDatasetConverter, files_of, get_dataset_list

    counts: Counter[str] = Counter()
    root = folder / "sharegpt"
    for attributes in get_dataset_list(list(json.loads((root / "dataset_info.json").read_text())), str(root)):
        convert = SharegptDatasetConverter(attributes, None)
        for path in files_of(root, attributes):
            for row in (json.loads(each) for each in path.read_text(encoding="utf-8").split("\n") if each):
                made = convert(row)
                roles = {"human": "user", "gpt": "assistant"}
                turns = [{"role": roles[each["from"]], "content": each["value"]} for each in row["conversations"]]
                same(made["_prompt"] + made["_response"], turns, "sharegpt")
                same(made["_system"], row["system"], "sharegpt")
                counts["sharegpt"] += 1
    return counts


def judge_inspect(folder: Path) -> Counter[str]:
    """Inspect's `json_dataset` reads each row as a sample."""
    from inspect_ai.dataset import json_dataset

    counts: Counter[str] = Counter()
    for path, expected in written(folder, "eval"):
        samples = list(json_dataset(str(path)))
        same(len(samples), len(expected), path.name)
        for sample, row in zip(samples, expected, strict=True):
            read = [{"role": each.role, "content": each.content} for each in sample.input]
            same((sample.id, read, sample.target), (row["id"], row["input"], row["target"]), path.name)
            same(sample.metadata, row["metadata"], path.name)
        counts["eval"] += len(samples)
    return counts


def judge_deepeval(folder: Path) -> Counter[str]:
    """DeepEval's loader reads each row as a golden, and as a conversational golden."""
    from deepeval.dataset import EvaluationDataset

    counts: Counter[str] = Counter()
    for path, expected in written(folder, "eval"):
        single: Any = EvaluationDataset()
        keys = {"input_key_name": "question", "expected_output_key_name": "target"}
        single.add_goldens_from_jsonl_file(str(path), **keys, additional_metadata_key_name="metadata")
        read = [(each.input, each.expected_output, each.additional_metadata) for each in single.goldens]
        same(read, [(row["question"], row["target"], row["metadata"]) for row in expected], path.name)
        whole: Any = EvaluationDataset()
        keys = {"scenario_key_name": "question", "turns_key_name": "input", "expected_outcome_key_name": "target"}
        whole.add_goldens_from_jsonl_file(str(path), **keys)
        turns = [[{"role": turn.role, "content": turn.content} for turn in each.turns] for each in whole.goldens]
        same(turns, [row["input"] for row in expected], path.name)
        counts["eval"] += len(expected)
    return counts


def judge_providers(folder: Path) -> Counter[str]:
    """The types of OpenAI's client, and botocore's model of Bedrock's Converse, accept the messages."""
    import botocore.session
    from botocore.validate import ParamValidator
    from openai.types.chat import ChatCompletionMessageParam
    from pydantic import TypeAdapter

    chat: TypeAdapter[Any] = TypeAdapter(list[ChatCompletionMessageParam])
    model = botocore.session.Session().get_service_model("bedrock-runtime").operation_model("Converse").input_shape
    counts: Counter[str] = Counter()
    for row in rows(folder, "messages"):
        chat.validate_python(row["messages"], strict=True)
        counts["messages"] += 1
    for row in rows(folder, "nova"):
        given = {"modelId": "nova", **{name: row[name] for name in ("messages", "system") if name in row}}
        report = ParamValidator().validate(given, model)
        same(report.generate_report(), "", "nova")
        counts["nova"] += 1
    return counts


def judge_croissant(folder: Path) -> Counter[str]:
    """`mlcroissant` reads every file by its description: JSON Lines, also compressed, and Parquet."""
    import mlcroissant

    counts: Counter[str] = Counter()
    for path in sorted(folder.rglob("croissant.json")):
        name, is_plain = path.parent.name, path.parent.parent == folder
        files = {str(file.relative_to(folder / name)): each for file, each in written(folder, name)}
        listed = [each["name"].removesuffix(".gz") for each in json.loads(path.read_text())["distribution"]]
        by_id = {row["_id"]: row for row in rows(folder, "jsonl")} if name == "parquet" else {}
        expected = list(by_id.values()) or [row for each in listed for row in files[each]]
        dataset = mlcroissant.Dataset(jsonld=str(path))
        read = [record for each in dataset.metadata.record_sets for record in dataset.records(each.id)]
        for number, record in enumerate(read):
            columns = {key.partition("/")[2]: value for key, value in record.items()}
            row = by_id[columns["_id"].decode()] if by_id else expected[number]
            for column, value in columns.items():
                _same_column(value, row, column, f"{path}: {number} {column}")
        if is_plain:
            counts[name] = len(read)
        else:
            same(len(read), len(expected), str(path))
    return counts


def _same_column(read: Any, row: Row, column: str, where: str) -> None:
    if not (isinstance(read, dict) or (isinstance(read, list) and read and isinstance(read[0], dict))):
        same(_plain(read), row.get(column), where)
        return
    items, written = ([read], [row[column]]) if isinstance(read, dict) else (read, row[column])
    same(len(items), len(written), where)
    for item, original in zip(items, written, strict=True):
        for key, value in item.items():
            name = key.rpartition("/")[2]
            # Parquet has a role, and JSON Lines do not.
            expected = original.get(name, "assistant" if original.get("sender") == "user" else "user")
            has_texts = isinstance(expected, list) and expected and isinstance(expected[0], dict)
            same(_plain(value), expected[0]["text"] if has_texts else expected, f"{where} {name}")


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, bytes):
        return value.decode()
    return value.isoformat(timespec="milliseconds").replace("+00:00", "Z") if hasattr(value, "isoformat") else value


JUDGES: dict[str, Callable[[Path], Counter[str]]] = {
    name.removeprefix("judge_"): each for name, each in list(globals().items()) if name.startswith("judge_")
}

if __name__ == "__main__":
    print(json.dumps(JUDGES[sys.argv[1]](Path(sys.argv[2]))))
