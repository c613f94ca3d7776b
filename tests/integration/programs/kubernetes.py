"""Holds objects for Kubernetes to its schemas: ``kubernetes.py FILE…`` prints those of each as JSON, and what is wrong.

No field may be unknown. A ServiceMonitor is held to the model of the Prometheus Operator.
"""

import json
import sys
from pathlib import Path

import kubernetes_validate
import yaml
from cloudcoil.models.prometheus_operator.v1 import ServiceMonitor

VERSION = "1.34"


def mistakes(thing):
    """What is wrong with one object, in words."""
    try:
        if thing["kind"] == "ServiceMonitor":
            read = ServiceMonitor.model_validate(thing)
            # Fields that it does not know are dropped.
            known = read.model_dump(mode="json", by_alias=True, exclude_none=True)
            return [] if known == thing else [f"unknown fields: {known} is what is left of {thing}"]
        if thing["kind"] not in ("Kustomization", "Component"):
            kubernetes_validate.validate(thing, VERSION, strict=True)
    except Exception as error:
        return [f"{thing['kind']} {thing['metadata']['name']}: {getattr(error, 'message', error)}"]
    return []


files = {path: [thing for thing in yaml.safe_load_all(Path(path).read_text()) if thing] for path in sys.argv[1:]}
things = [thing for found in files.values() for thing in found if "kind" in thing]
json.dump({"files": files, "mistakes": [mistake for thing in things for mistake in mistakes(thing)]}, sys.stdout)
