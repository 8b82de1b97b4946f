"""What the cluster asks its own API server while it starts: plain HTTPS, no client to import first."""

from __future__ import annotations

import http.client
import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook_lib.errors import LabError
from runbook_lib.lab.cluster.pki import Pki

__all__ = ["Api"]

JSON, YAML, MERGE = "application/json", "application/yaml", "application/merge-patch+json"


@dataclass(frozen=True)
class Api:
    """The API server at an address, as its administrator."""

    address: str
    pki: Pki
    port: int = 6443

    def ask(
        self, method: str, path: str, body: object = None, kind: str = JSON
    ) -> tuple[int, dict[str, Any]]:
        """Status and answer; OSError where nobody answers."""
        context = ssl.create_default_context(cafile=self.pki.certificate("ca"))
        context.load_cert_chain(self.pki.certificate("admin"), self.pki.key("admin"))
        line = http.client.HTTPSConnection(self.address, self.port, context=context, timeout=30)
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        try:
            line.request(method, path, data, {"Content-Type": kind, "Accept": JSON})
            answer = line.getresponse()
            text = answer.read()
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            line.close()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, {"message": text.decode("utf-8", "replace")}

    def ready(self) -> bool:
        """Whether it takes requests: etcd answers and the first roles are there."""
        try:
            return self.ask("GET", "/readyz")[0] == 200
        except OSError:
            return False

    def get(self, path: str) -> dict[str, Any]:
        """An object that must be there."""
        return self._fine(*self.ask("GET", path), f"reading {path}")

    def create(self, path: str, body: object, kind: str = JSON) -> None:
        """Create it; one that is there stays as it is."""
        status, said = self.ask("POST", path, body, kind)
        if status != 409:
            self._fine(status, said, f"creating in {path}")

    def create_file(self, path: str, file: Path) -> None:
        """Create what a YAML file holds: read by the API server, which is faster than any of ours."""
        self.create(path, file.read_bytes(), YAML)

    def patch(self, path: str, body: object) -> None:
        """Merge into an object that must be there."""
        self._fine(*self.ask("PATCH", path, body, MERGE), f"changing {path}")

    @staticmethod
    def _fine(status: int, said: dict[str, Any], doing: str) -> dict[str, Any]:
        if status >= 400:
            raise LabError(
                f"The cluster's API server refused {doing}.",
                why=f"{status}: {said.get('message', said)}",
                fix="runbook lab down; runbook lab up --cluster",
            )
        return said
