"""The settings: what is valid by itself and still will not do."""

from collections import Counter
from collections.abc import Iterator

from worker.doctor.findings import Finding, failure, ok, warning
from worker.errors import InvalidSettings
from worker.settings import PREFIX, Settings, load

ADVICE = "Mend the variable; the README's table says what each may be."


def read() -> tuple[Settings | None, list[Finding]]:
    """The settings of the environment; None where they are not valid."""
    try:
        settings = load()
    except InvalidSettings as error:
        return None, [failure(error.message, ADVICE)]
    return settings, list(_check(settings))


def _check(settings: Settings) -> Iterator[Finding]:
    faults = [*_one_name_twice(settings), *_tokens(settings)]
    yield from faults
    named = sorted(f"{PREFIX}{name.upper()}" for name in settings.model_fields_set)
    yield ok(f"{len(named)} set: {', '.join(named)}" if named else "all as they are by default")


def _one_name_twice(settings: Settings) -> Iterator[Finding]:
    for kind in ("_collection", "_stream"):
        fields = [name for name in Settings.model_fields if name.endswith(kind)]
        counted = Counter(getattr(settings, name) for name in fields)
        for value, count in counted.items():
            if count > 1:
                both = " and ".join(f"{PREFIX}{each.upper()}" for each in fields if getattr(settings, each) == value)
                yield failure(f"{both} have the same name, {value}.", "Each needs a name of its own.")


def _tokens(settings: Settings) -> Iterator[Finding]:
    if not (settings.jwt_secret or settings.jwt_public_key or settings.jwt_jwks):
        yield warning(
            "No secret and no public key verifies tokens: `snapshots api` does not start with these settings.",
            f"Set {PREFIX}JWT_SECRET, {PREFIX}JWT_PUBLIC_KEY or {PREFIX}JWT_JWKS where it runs.",
        )
