"""`rlx schema`."""

from __future__ import annotations

import json
import sys

from rlx.config.schema import Config


def schema_command() -> None:
    """JSON Schema on stdout, with the keys as the file has them."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema(by_alias=True)}
    sys.stdout.write(json.dumps(schema, indent=2) + "\n")
