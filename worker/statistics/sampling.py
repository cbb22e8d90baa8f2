"""Computes the figures that need whole snapshots, from a random sample of them."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from bson import ObjectId

from worker.formats import FORMATS, Format, NotRepresentable, Options
from worker.statistics.channels import channels_of
from worker.statistics.counts import Selection, most_frequent
from worker.statistics.figures import FormatFigures, Reason, Sample
from worker.statistics.languages import Languages
from worker.statistics.lengths import CHARACTERS, lengths
from worker.stores.connections import PLAIN, Connections, Document, store_errors

_BATCH = 50
"""Snapshots of one read."""


class _FormatCheck:
    """Counts how many snapshots a format can represent, and why it skips the others."""

    def __init__(self, format_: Format) -> None:
        self._format = format_
        self._usable = self._rows = 0
        self._skipped = Counter[str]()

    def add(self, snapshot: Mapping[str, Any]) -> None:
        try:
            rows = len(self._format.rows(snapshot, Options()))
        except NotRepresentable as skipped:
            self._skipped[skipped.reason] += 1
        else:
            self._usable += 1
            self._rows += rows

    def figures(self) -> FormatFigures:
        skipped = [Reason(reason=reason, snapshots=number) for reason, number in self._skipped.most_common()]
        return FormatFigures(format=self._format.name, usable=self._usable, rows=self._rows, skipped=skipped)


def take_sample(
    connections: Connections, organization: ObjectId, selection: Selection, total: int, size: int, seconds: float
) -> Sample:
    """Return the figures for a sample of up to `size` of `total` snapshots, or fewer if `seconds` run out.

    `selection`: the snapshots of the organization to sample, as they are at one moment. Raises StatisticsTooSlow,
    StoreUnavailable, StoreConflict.
    """
    # Only the ids are read and shuffled, because an index has them.
    chosen = [each["_id"] for each in selection.aggregate([{"$project": {"_id": 1}}, {"$sample": {"size": size}}])]
    detect = Languages.if_installed()
    characters, channels, languages = Counter[int](), Counter[str | None](), Counter[str | None]()
    checks = [_FormatCheck(each) for each in FORMATS.values()]
    stop_at = time.monotonic() + seconds
    taken = 0
    for start in range(0, len(chosen), _BATCH):
        if taken and time.monotonic() > stop_at:
            break
        batch = chosen[start : start + _BATCH]
        owners = list(_read(selection, batch, {"conversationId": 1, "contactId": 1}))
        of_batch = channels_of(connections, organization, owners)
        for snapshot, channel in zip(_read(selection, batch), of_batch, strict=True):
            if taken and time.monotonic() > stop_at:  # one snapshot may have 16 MB
                break
            taken += 1
            channels[channel] += 1
            texts = _texts(snapshot)
            characters[sum(map(len, texts))] += 1
            if detect:
                languages[detect(texts)] += 1
            for check in checks:
                check.add(snapshot)
    return Sample(
        snapshots=taken,
        complete=taken == total,
        characters=lengths(characters, CHARACTERS),
        channels=most_frequent(channels.most_common()),
        languages=most_frequent(languages.most_common()) if detect else None,
        formats=[check.figures() for check in checks],
    )


def _read(selection: Selection, ids: list[Any], fields: Document | None = None) -> Iterator[Document]:
    read = selection.collection.with_options(codec_options=PLAIN)
    with store_errors(), read.find({"_id": {"$in": ids}}, fields, session=selection.session) as cursor:
        yield from cursor


def _texts(snapshot: Mapping[str, Any]) -> list[str]:
    """Return the texts of the messages. A snapshot that the platform created may have values of any type there."""
    messages = snapshot.get("messages")
    listed = messages if isinstance(messages, list) else []
    contents = [each.get("content") for each in listed if isinstance(each, Mapping)]
    return [str(content) for content in contents if isinstance(content, str)]
