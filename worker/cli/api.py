"""`snapshots api`: the HTTP surface."""

import json
import os
import socket

import click

from worker.cli.options import json_option


@click.command()
@click.option("--host", help="Address to listen on. [SNAPSHOTS_API_HOST, 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65_535), help="0 takes a free one. [SNAPSHOTS_API_PORT, 8000]")
@click.option("--fd", type=int, hidden=True, help="A listening socket that was inherited.")
@json_option
def api(host: str | None, port: int | None, fd: int | None, as_json: bool) -> None:
    """Serve HTTP until Ctrl-C: POST /api/training/snapshots and its siblings.

    Tokens are verified with SNAPSHOTS_JWT_SECRET (HS256), or SNAPSHOTS_JWT_PUBLIC_KEY or SNAPSHOTS_JWT_JWKS
    (RS256, ES256); there is no default. Documentation is at /docs.

    \b
    Example:
        SNAPSHOTS_JWT_SECRET=$(openssl rand -hex 32) snapshots api --port 8000
    """
    import uvicorn

    from worker import log
    from worker.api.app import build_app
    from worker.bootstrap import build
    from worker.settings import load

    settings = load(**{name: value for name, value in (("api_host", host), ("api_port", port)) if value is not None})
    log.configure(settings)
    app = build_app(build(settings))
    listening = socket.socket(fileno=fd) if fd is not None else _listen(settings.api_host, settings.api_port)
    url = _url_of(listening)
    if as_json:
        click.echo(json.dumps({"ready": True, "api": url, "pid": os.getpid()}))
    else:
        click.echo(f"listening on {url}, documentation at {url}/docs", err=True)
    config = uvicorn.Config(
        app,
        log_config=None,
        proxy_headers=False,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=15,
        timeout_keep_alive=75,
        lifespan="on",
    )
    uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    """Raises click.ClickException where the address cannot be listened on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
        made.listen(2048)
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror}") from None
    return made


def _url_of(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
