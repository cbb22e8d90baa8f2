"""LLaMA-Factory's parser and converter without the rest of it, which needs PyTorch.

Their own code runs. Only packages that they would import around them are replaced by empty ones, and three names that
they take from modules which import PyTorch.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any


def _package(name: str, folder: Path | None = None, **names: Any) -> None:
    module = ModuleType(name)
    module.__dict__.update(names)
    if folder:
        module.__path__ = [str(folder)]
    sys.modules[name] = module


_spec = importlib.util.find_spec("llamafactory")
if _spec is None or not _spec.submodule_search_locations:
    raise SystemExit("llamafactory is not installed; run `make judges`")
_root = Path(_spec.submodule_search_locations[0])
_package("llamafactory", _root)
_package("llamafactory.data", _root / "data")
_package("llamafactory.extras", _root / "extras")
_package("llamafactory.extras.constants", DATA_CONFIG="dataset_info.json", RUNNING_LOG="running_log.txt")
_package("llamafactory.extras.misc", use_modelscope=lambda: False, use_openmind=lambda: False)

get_dataset_list: Any = importlib.import_module("llamafactory.data.parser").get_dataset_list
SharegptDatasetConverter: Any = importlib.import_module("llamafactory.data.converter").SharegptDatasetConverter


def files_of(root: Path, attributes: Any) -> list[Path]:
    """The files of a dataset, as `_load_single_dataset` in llamafactory/data/loader.py finds them."""
    if attributes.load_from != "file":
        raise SystemExit(f"{attributes.dataset_name}: would be loaded from {attributes.load_from}")
    path = root / attributes.dataset_name
    return sorted(path.iterdir()) if path.is_dir() else [path]
