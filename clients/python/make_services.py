"""Writes src/countersign/services.py: a class for each service, a method for each RPC."""

import re
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

SOURCES = Path(__file__).parent / "src/countersign"

SERVICES = {"AccountService": "account_service", "OrgService": "org_service", "TokenService": "token_service"}
HEAD = '''"""The services of Countersign. Generated from proto/ by make_services.py: do not edit."""

from __future__ import annotations

from typing import Any

from countersign._call import Caller, Pages, Stream
from countersign.v1 import {modules}
'''


def main():
    # The stubs alone: the package itself needs what this writes.
    package = sys.modules["countersign"] = ModuleType("countersign")
    package.__path__ = [str(SOURCES)]
    text = HEAD.format(modules=", ".join(f"{name}_pb2" for name in sorted(imports())))
    for service, module in SERVICES.items():
        descriptor = import_module(f"countersign.v1.{module}_pb2").DESCRIPTOR.services_by_name[service]
        text += (
            f'\n\nclass {service}:\n    """`countersign.v1.{service}`. Fields are given by name, or as a request."""\n'
        )
        text += "\n    def __init__(self, caller: Caller) -> None:\n        self._caller = caller\n"
        for method in descriptor.methods:
            text += "\n" + rpc(service, method)
    (SOURCES / "services.py").write_text(text)


def imports():
    found = set()
    for service, module in SERVICES.items():
        for method in import_module(f"countersign.v1.{module}_pb2").DESCRIPTOR.services_by_name[service].methods:
            found |= {module_of(method.input_type), module_of(method.output_type)}
            if item := item_of(method):
                found.add(module_of(item.message_type))
    return found


def module_of(message):
    return re.fullmatch(r"countersign/v1/(\w+)\.proto", message.file.name)[1]


def type_of(message):
    return f"{module_of(message)}_pb2.{message.name}"


def item_of(method):
    """The repeated field of a list's answer; None where it is no list of one kind of thing."""
    fields = method.output_type.fields_by_name
    if "next_page_token" not in fields:
        return None
    lists = [field for field in fields.values() if field.is_repeated and field.message_type]
    return lists[0] if len(lists) == 1 else None


def is_read(method):
    """Whether a call changes nothing, as its name says: such calls are made again after any failure that may pass."""
    return re.match("Get|List|Check|Resolve|Introspect|BatchIntrospect|Explain", method.name) is not None


def rpc(service, method):
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).lower()
    request, answer = type_of(method.input_type), type_of(method.output_type)
    path = f"/countersign.v1.{service}/{method.name}"
    given = f"self, request: {request} | None = None, /"
    if method.server_streaming:
        kind, how = f"Stream[{answer}]", "stream"
        given += ", *, timeout: float | None = None, **fields: Any"
    elif item := item_of(method):
        kind, how = f"Pages[{type_of(item.message_type)}, {answer}]", "pages"
        given += ", *, timeout: float = 10, **fields: Any"
    else:
        kind, how = answer, "unary"
        given += ", *, timeout: float = 10, **fields: Any"
    arguments = f'"{path}", {request}, {answer}, request, fields, timeout'
    if how == "pages":
        arguments += f', "{item.name}"'
    elif how == "unary":
        arguments += f", {is_read(method)}"
    return f"    def {name}({given}) -> {kind}:\n        return self._caller.{how}({arguments})\n"


if __name__ == "__main__":
    main()
