"""The versions of models and the alias `champion`, in MLflow.

A version is a file `model.json` (see `task`), the figures of its judgement, and tags: what must
hold of it and whether it does, and a digest of what it was made from. MLflow keeps them in a
database: by default a file in `SOFTCART_HOME`, or what `SOFTCART_MLFLOW_URI` names.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from softcart_assets.ml.task import Verdict
from softcart_assets.paths import softcart_home

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

URI = "SOFTCART_MLFLOW_URI"
FILES = "SOFTCART_MLFLOW_FILES"
"""The settings of where versions are listed, and where their files are."""

CHAMPION, CANDIDATE = "champion", "candidate"
"""The aliases of the version that scores, and of the newest one."""

_QUIET = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false", "MLFLOW_LOGGING_LEVEL": "WARNING"}
_FILE = "model.json"
_VERDICT = "verdict."


class NotSound(RuntimeError):
    """A version may not become the champion. The message says which check it fails."""


class RegistryFailed(RuntimeError):
    """The registry cannot be used. The message names its setting."""


@dataclass(frozen=True)
class Version:
    """A registered version. `made_from`: a digest of the rows, the declaration and the code.

    `text`: the fitted model, as its task has written it.
    """

    number: int
    made_from: str
    figures: Mapping[str, float]
    verdicts: Sequence[Verdict]
    text: str

    @property
    def unsound(self) -> str:
        """Why it may not score. Empty if every verdict lets it pass."""
        failed = [each for each in self.verdicts if not each.passed]
        reasons = " ".join(f"{each.name}: {each.message}" for each in failed)
        return reasons or ("" if self.verdicts else "It was never judged.")


class Registry:
    """The registry of all models. It is opened at the first use, which takes seconds."""

    def __init__(self, uri: str, files: str) -> None:
        self._uri, self._files = uri, files
        self._client: MlflowClient | None = None

    @classmethod
    def from_env(cls, environment: Mapping[str, str] = os.environ) -> Registry:
        """The registry of the settings."""
        home = softcart_home(environment) / "mlflow"
        uri = environment.get(URI)
        if not uri:
            home.mkdir(parents=True, exist_ok=True)
            uri = f"sqlite:///{home / 'registry.db'}"
        return cls(uri, environment.get(FILES) or (home / "files").as_uri())

    def open(self) -> None:
        """Connect. MLflow makes its tables if there are none. Raises `RegistryFailed`."""
        with self._connected():
            pass

    def champion(self, model: str) -> Version | None:
        """The version that scores, if there is one."""
        return self._version(model, CHAMPION)

    def scoring(self, model: str) -> Version | None:
        """The champion, if there is one. Raises `NotSound`: MLflow lets everybody move an alias."""
        found = self.champion(model)
        if found and (reason := found.unsound):
            raise NotSound(
                f"Version {found.number} of {model} has the alias {CHAMPION} and is not sound, so "
                "nothing is scored with it, and the last scores stay. Move the alias to a sound "
                f"version, see docs/models.md. {reason}"
            )
        return found

    def version(self, model: str, number: int) -> Version:
        """A version by its number. Raises `RegistryFailed` if there is none."""
        with self._connected() as client:
            return self._read(client, client.get_model_version(model, str(number)))

    def candidate(self, model: str) -> Version | None:
        """The newest version, whether it may score or not."""
        return self._version(model, CANDIDATE)

    def add(
        self,
        model: str,
        text: str,
        made_from: str,
        figures: Mapping[str, float],
        verdicts: Sequence[Verdict],
        pictures: Sequence[Path] = (),
    ) -> Version:
        """Register a version. It has no alias yet."""
        with self._connected() as client:
            run = client.create_run(self._experiment(client, model)).info.run_id
            for name, value in figures.items():
                client.log_metric(run, name, value)
            client.log_text(run, text, _FILE)
            for picture in pictures:
                client.log_artifact(run, str(picture))
            client.set_terminated(run)
            if not client.search_registered_models(f"name = '{model}'"):
                client.create_registered_model(model)
            told = {
                f"{_VERDICT}{each.name}": json.dumps([each.passed, each.message])
                for each in verdicts
            }
            source = client.get_run(run).info.artifact_uri
            made = client.create_model_version(
                model, source, run, tags={"made_from": made_from, **told}
            )
            return self._read(client, made)

    def settle(self, model: str, version: Version) -> None:
        """Make a version the candidate, and the champion if it is sound.

        The candidate comes last: after a kill in between, the same is trained again. And nothing
        moves the champion later. So people may move it back to an older version.
        """
        if not version.unsound:
            self.promote(model, version)
        with self._connected() as client:
            client.set_registered_model_alias(model, CANDIDATE, str(version.number))

    def promote(self, model: str, version: Version) -> None:
        """Make a version the champion. Raises `NotSound` unless every verdict lets it pass."""
        if reason := version.unsound:
            raise NotSound(
                f"Version {version.number} of {model} is not sound, so {CHAMPION} stays where it "
                f"is. {reason}"
            )
        with self._connected() as client:
            client.set_registered_model_alias(model, CHAMPION, str(version.number))

    def _version(self, model: str, alias: str) -> Version | None:
        with self._connected() as client:
            # MLflow tells a missing model from a missing alias by its text only.
            known = client.search_registered_models(f"name = '{model}'")
            if not known or alias not in known[0].aliases:
                return None
            return self._read(client, client.get_model_version_by_alias(model, alias))

    def _read(self, client: MlflowClient, found: ModelVersion) -> Version:
        tags, run = found.tags, found.run_id
        assert run
        with tempfile.TemporaryDirectory() as folder:
            text = Path(client.download_artifacts(run, _FILE, folder)).read_text()
        return Version(
            int(found.version),
            tags.get("made_from", ""),
            dict(client.get_run(run).data.metrics),
            [
                Verdict(name.removeprefix(_VERDICT), *json.loads(told))
                for name, told in sorted(tags.items())
                if name.startswith(_VERDICT)
            ],
            text,
        )

    def _experiment(self, client: MlflowClient, model: str) -> str:
        if found := client.get_experiment_by_name(model):
            return str(found.experiment_id)
        # A server of MLflow's has a place of its own for files.
        files = None if self._uri.startswith("http") else f"{self._files.rstrip('/')}/{model}"
        return str(client.create_experiment(model, artifact_location=files))

    @contextmanager
    def _connected(self) -> Iterator[MlflowClient]:
        """The client of MLflow. Raises `RegistryFailed`, without the password of the setting."""
        # Small files need no progress bar, and people no list of the tables that MLflow makes.
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        # Only here: it takes two seconds.
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
        from sqlalchemy.exc import SQLAlchemyError

        try:
            if self._client is None:
                _ask(self._uri)
                self._client = MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)
            yield self._client
        except (MlflowException, SQLAlchemyError) as error:
            said = str(error).replace(self._uri, URI)
            raise RegistryFailed(
                f"The registry of models cannot be used: {said} Check {URI} and {FILES}."
            ) from None


def _ask(uri: str) -> None:
    """Connect once to a database that may be down. MLflow would try for 100 seconds, and all other
    assets would wait."""
    from sqlalchemy import create_engine

    if uri.startswith("postgresql"):
        engine = create_engine(uri, connect_args={"connect_timeout": 10})
        engine.connect().close()
        engine.dispose()
