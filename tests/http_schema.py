"""Runs all checks of Schemathesis against the API: `python tests/http_schema.py --cases 2000`.

Runs it with a token of the organization that has the data, then with another organization's, which must find
nothing of the first. Starts everything that it needs; the exit code is 1 where a check failed.
"""

import argparse
import re
import sys
import tempfile
from pathlib import Path

from bson import ObjectId

sys.path.insert(0, str(Path(__file__).parent))

from support.contacts import contact_with
from support.http import SNAPSHOTS, api, client, token
from support.http_schema import Ids, run_schemathesis
from support.stack import stack
from worker.local.embedded import embedded
from worker.settings import load

PER_OPERATION = 6
"""Operations that take input. The phases that cover each parameter add hundreds of cases."""
_CASES = re.compile(r"(\d+) generated")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    failed = False
    with embedded() as servers, tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        settings = load(redis_url=servers.redis_url, mongo_url=servers.mongo_url, mongo_database="schema")
        env = {"EXPORTS_URL": str(folder / "exports")}
        with stack(settings, folder, env) as running, api(settings, folder, env) as (url, process):
            contacts = [contact_with(running.database, 3)]
            contacts += [contact_with(running.database, 1, organization=contacts[0].organization) for _ in range(3)]
            own = contacts[0].organization
            with client(url, token(own)) as http:
                made = [http.post(SNAPSHOTS, json={"contactId": str(each.id)}).json()["data"] for each in contacts]
            ids = [str(each.id) for each in contacts]
            snapshots = [each["_id"] for each in made]
            foreign = ["Priya", "Grüße", str(own)]
            runs = {
                "own organization": (token(own), Ids(ids, snapshots, [])),
                "another organization": (token(ObjectId()), Ids(ids, snapshots, foreign)),
            }
            for name, (value, known) in runs.items():
                ended = run_schemathesis(
                    url,
                    value,
                    known,
                    folder,
                    f"--max-examples={options.cases // PER_OPERATION}",
                    f"--seed={options.seed}",
                )
                failed |= ended.returncode != 0
                print(ended.stdout if ended.returncode else ended.stdout[-900:])
                count = sum(int(each) for each in _CASES.findall(ended.stdout))
                print(f"{name}: {count} cases, exit code {ended.returncode}")
            log = process.log.read_text() if process.log else ""
            failed |= "Traceback" in log or '"level": "error"' in log
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
