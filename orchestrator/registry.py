"""The registry of models: the name and alias under which a model is asked for by others."""

from __future__ import annotations

import json
import re

from orchestrator.store import ModelError, Store

ALIAS = "champion"
LINKS = "mlflow.modelVersions"
"""The tag by which MLflow's page of a model links to the registry."""


def ready(store: Store, own: str) -> str | None:
    """Give MLflow's id of a model that was logged and answered, by the id in its own ``MLmodel``.

    It may belong to any run of the experiment.
    """
    same = f"tags.`tlmt.model` = '{own}'"
    found = store.client.search_logged_models([store.experiment], same)
    return next((str(one.model_id) for one in found if one.status == "READY"), None)


def register(store: Store, name: str, model: str, own: str) -> str:
    """Give a logged model a version of a registered model, and the alias; give its address.

    The same model, which its ``own`` id tells, gets no second version. Raises ``ModelError`` for
    a model that did not answer when it was logged.
    """
    client = store.client
    logged = client.get_logged_model(model)
    if logged.status != "READY":
        raise ModelError(
            f"MLflow's model {model} is {logged.status}: it gave no answer in a fresh process, so "
            f"it is not registered as {name}. Save the run's model anew and try again."
        )
    name = re.sub(r"[/:'\"]", "_", name)  # MLflow's addresses and searches take these for their own
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    known = client.search_model_versions(f"name = '{name}'")
    version = next((str(one.version) for one in known if one.tags.get("tlmt.model") == own), None)
    if version is None:
        made = client.create_model_version(
            name,
            logged.artifact_location,
            logged.source_run_id,
            {"tlmt.model": own},
            model_id=model,
        )
        version = str(made.version)
    links = [{"name": name, "version": int(version)}]
    client.set_logged_model_tags(model, {LINKS: json.dumps(links)})
    client.set_registered_model_alias(name, ALIAS, version)
    return f"models:/{name}@{ALIAS}"
