"""Checks the settings, and warns about valid ones that are unwise."""

from collections.abc import Iterator

from worker.doctor.findings import Finding, failure, ok, warning
from worker.errors import InvalidSettings
from worker.exports.places import fault_of_folder
from worker.settings import PREFIX, Settings, load, unknown_variables

ADVICE = "Correct the environment variable. docs/settings.md lists the allowed values."


def read() -> tuple[Settings | None, list[Finding]]:
    """Read the settings from the environment. They are None if a value is not valid."""
    try:
        settings = load()
    except InvalidSettings as error:
        return None, [failure(error.message, ADVICE)]
    return settings, list(_check(settings))


def _check(settings: Settings) -> Iterator[Finding]:
    yield from _unknown()
    yield from _tokens(settings)
    if fault := fault_of_folder(settings):
        yield warning(fault, "Correct it for every worker: a worker that cannot write to the folder fails its exports.")
    named = sorted(f"{PREFIX}{name.upper()}" for name in settings.model_fields_set)
    yield ok(f"{len(named)} set: {', '.join(named)}" if named else "all settings have their defaults")


def _unknown() -> Iterator[Finding]:
    for name, nearest in unknown_variables():
        yield warning(f"{name} is not a setting and has no effect.", f"Did you mean {nearest}?" if nearest else ADVICE)


def _tokens(settings: Settings) -> Iterator[Finding]:
    if not (settings.jwt_secret or settings.jwt_public_key or settings.jwt_jwks):
        # Only the API needs a key; where the doctor runs for other processes, it is right to have none.
        yield ok(
            "no key that verifies tokens is set here; only `snapshots api` needs one (`snapshots up` makes its own)"
        )
