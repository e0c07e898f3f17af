"""The JSON Schema (2020-12) of policy documents, for editors. Made of the same forms that the parser reads with."""

from copy import deepcopy

from stockade.core.policy.kinds import API_VERSION, KINDS
from stockade.core.policy.read import HEAD

SCHEMA_ID = f"https://{API_VERSION}/policy.schema.json"


def schema() -> dict[str, object]:
    """Return the schema of one document of any kind; the caller's own copy.

    It is as strict as JSON Schema can be: selectors, CIDRs and references are texts to it, and only ``policy check``
    says whether they mean something.
    """
    return deepcopy(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": SCHEMA_ID,
            "title": "Stockade policy document",
            **HEAD.schema,
            "allOf": [
                {
                    "if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
                    "then": {"properties": {"spec": {"$ref": f"#/$defs/{kind}"}}},
                }
                for kind in KINDS
            ],
            "$defs": {kind: {"title": kind, **form.schema} for kind, form in KINDS.items()},
        }
    )
