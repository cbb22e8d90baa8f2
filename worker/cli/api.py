"""`snapshots api`: serves the HTTP API."""

import json
import os
import signal
import socket
import sys

import click

from worker.cli.options import json_option


@click.command()
@click.option("--host", help="Address to listen on. [SNAPSHOTS_API_HOST, 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65_535), help="Port; 0 picks a free one. [SNAPSHOTS_API_PORT, 8000]")
@click.option(
    "--fd",
    type=int,
    hidden=True,
    help="File descriptor of an inherited listening socket, used instead of --host and --port.",
)
@json_option
def api(host: str | None, port: int | None, fd: int | None, as_json: bool) -> None:
    """Serve the HTTP API until Ctrl-C.

    Tokens are verified with SNAPSHOTS_JWT_SECRET (HS256), or SNAPSHOTS_JWT_PUBLIC_KEY or SNAPSHOTS_JWT_JWKS
    (RS256, ES256); there is no default. Documentation is at /docs.

    \b
    Example:
        SNAPSHOTS_JWT_SECRET=$(openssl rand -hex 32) snapshots api --port 8000
    """
    from worker import log
    from worker.api.app import build_app
    from worker.api.container import Container
    from worker.api.server import serve
    from worker.bootstrap import build
    from worker.erasure import log as erasure_log
    from worker.erasure.receipt import check_signing_key
    from worker.errors import TransientError
    from worker.operations.backend import Backend
    from worker.operations.routes import routes
    from worker.settings import load
    from worker.startup.process import prepare

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn raises the signal again after its shutdown
    settings = load(**{name: value for name, value in (("api_host", host), ("api_port", port)) if value is not None})
    log.configure(settings)
    listening = socket.socket(fileno=fd) if fd is not None else _listen(settings.api_host, settings.api_port)
    prepare(settings)
    check_signing_key(settings)
    try:
        erasure_log.check(settings)
    except TransientError as error:  # a bucket that does not answer now
        log.get_logger(__name__).warning("erasure_log_unavailable_at_start", code=error.code, reason=error.message)
    container = Container(build(settings))
    backend = Backend(container)
    container.on_close(backend.close)
    app = build_app(container, pages=routes(backend))
    url = _url_of(listening)
    if as_json:
        click.echo(json.dumps({"ready": True, "api": url, "pid": os.getpid()}))
    else:
        click.echo(f"listening on {url}, documentation at {url}/docs", err=True)
    serve(app, listening, settings.api_max_connections)


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises click.ClickException if the address is not available."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(2048)
    except OSError as error:
        raise click.ClickException(
            f"The API cannot listen on {host}:{port}: {error.strerror}. Choose another port with --port or "
            "SNAPSHOTS_API_PORT, or another address with --host or SNAPSHOTS_API_HOST."
        ) from None
    return listening


def _url_of(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
