"""The driver of the conformance suite (clients/conformance/README.md) for this library."""

import asyncio
import base64
import json
import platform
import sys
import threading
import traceback
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor

import uvicorn

import countersign
import grpc
from countersign import (
    AssertionFile,
    Client,
    CountersignError,
    Interceptor,
    Key,
    Middleware,
    Route,
    Rule,
    Secret,
    SystemClock,
    TokenFile,
    TokenSource,
    Verifier,
    allows,
    current_claims,
)
from countersign.v1 import error_reason_pb2, org_service_pb2, token_service_pb2

CREATE_RESOURCE = "/countersign.v1.OrgService/CreateResource"


class TestClock:
    """Stands still until the runner moves it."""

    def __init__(self, wall, monotonic):
        self.now, self.passed = wall, monotonic

    def wall(self):
        return self.now

    def monotonic(self):
        return self.passed


class Driver:
    def __init__(self):
        self.objects = {}
        self.clocks = {}
        self.output = threading.Lock()

    def main(self):
        # A thread for each request that waits, so that none blocks another.
        with ThreadPoolExecutor(max_workers=256) as pool:
            for line in sys.stdin:
                request = json.loads(line)
                # What makes or feeds an object is done in its order.
                if request["op"] in ("verifier", "source", "feed", "clock", "close"):
                    self.handle(request)
                else:
                    pool.submit(self.handle, request)
        for name in list(self.objects):
            self.op_close({"id": name})

    def handle(self, request):
        answer = {"seq": request["seq"]}
        operation = getattr(self, f"op_{request['op']}", None)
        if operation is None:
            answer["error"] = {"reason": "NOT_SUPPORTED"}
        else:
            try:
                answer["ok"] = operation(request)
            except CountersignError as error:
                answer["error"] = described(error)
            except Exception as error:
                traceback.print_exc()
                answer["error"] = {"reason": "DRIVER_FAULT", "message": f"{type(error).__name__}: {error}"}
        with self.output:
            print(json.dumps(answer), flush=True)

    def put(self, name, made):
        self.op_close({"id": name})
        self.objects[name] = made

    # The driver.

    def op_hello(self, _request):
        operations = sorted(name.removeprefix("op_") for name in dir(self) if name.startswith("op_"))
        return {
            "language": "python",
            "library": countersign.__version__,
            "runtime": platform.python_version(),
            "ops": operations,
        }

    def op_close(self, request):
        if made := self.objects.pop(request["id"], None):
            made.close()
        return {}

    # Verifier.

    def op_verifier(self, request):
        clock = SystemClock(request.get("wall_offset", 0))
        if given := request.get("clock"):
            clock = self.clocks[request["id"]] = TestClock(given["wall"], given["monotonic"])
        credential = credential_of(request["credential"]) if request.get("credential") else None
        try:
            verifier = Verifier(
                request.get("endpoint"),
                credential,
                request["issuer"],
                revocation=request.get("revocation", "stream"),
                staleness=request.get("staleness"),
                open_for=request.get("open_for"),
                org_ids=request.get("org_ids", ()),
                verifier_name=request.get("verifier_name"),
                ca_file=request.get("ca_file"),
                clock=clock,
            )
        except ValueError as error:
            raise CountersignError("INVALID_FIELD", str(error)) from None
        self.put(request["id"], verifier)
        if request.get("endpoint"):
            verifier.wait_until_ready(0)
        return {}

    def op_clock(self, request):
        clock = self.clocks[request["id"]]
        clock.now = request.get("wall", clock.now)
        clock.passed = request.get("monotonic", clock.passed)
        return {}

    def op_feed(self, request):
        verifier = self.objects[request["id"]]
        for item in request["items"]:
            if cut := item.get("cut"):
                verifier.state.cut(CountersignError(cut.get("reason", ""), code=cut["code"]))
            else:
                verifier.feed(item_of(item))
        return {"cursor": verifier.state.cursor}

    def op_verify(self, request):
        claims = self.objects[request["id"]].verify(
            request["jwt"],
            request["audience"],
            request.get("orgs"),
            certificate_thumbprint=request.get("certificate_thumbprint"),
        )
        return {"claims": claims.raw}

    def op_allows(self, request):
        return {"allowed": allows(request["claims"], request["permission"], request.get("resource"))}

    def op_state(self, request):
        verifier = self.objects[request["id"]]
        state = verifier.state
        return {
            "fresh": state.fresh,
            "age": state.age,
            "key_ids": sorted(state.keys),
            "revocations": state.revocations,
            "cursor": state.cursor,
            "key_set_fetches": verifier.key_set_fetches,
        }

    # Token source.

    def op_source(self, request):
        credential = credential_of(request["credential"], request.get("issuer"))
        source = TokenSource(
            request["endpoint"],
            credential,
            transport=request.get("transport", "grpc"),
            ca_file=request.get("ca_file"),
        )
        self.put(request["id"], source)
        return {}

    def op_get(self, request):
        token = self.objects[request["id"]].get_token(
            request.get("audiences", ()),
            request.get("scopes", ()),
            ttl=request.get("ttl"),
            timeout=request.get("timeout", 10),
        )
        return {"access_token": token.text, "expire_time": token.expire_time}

    def op_sources(self, request):
        source = self.objects[request["id"]]
        return {"cached": source.cached, "exchanges": source.exchanges}

    # Errors, pages, request ids.

    def op_status(self, request):
        code = next(each.name for each in grpc.StatusCode if each.value[0] == request["code"])
        details = base64.b64decode(request["details"]) if request.get("details") else None
        error = CountersignError.from_status(code, request["message"], details)
        return described(error) | {
            "code": error.code,
            "metadata": error.metadata,
            "violations": [vars(violation) for violation in error.violations],
            "request_id": error.request_id,
        }

    def op_list_accounts(self, request):
        with Client(request["endpoint"], credential_of(request["credential"])) as client:
            pages = client.accounts.list_accounts(page_size=request.get("page_size"))
            ids, calls = [], 0
            for page in pages.pages():
                calls += 1
                ids += [account.id for account in page.accounts]
                if len(ids) >= request.get("limit", 1_000_000):
                    break
            return {"ids": ids[: request.get("limit")], "calls": calls}

    def op_create_account(self, request):
        with Client(request["endpoint"], credential_of(request["credential"])) as client:
            made = client.accounts.create_service_account(
                name=request["name"], org_id=request.get("org_id"), timeout=request.get("timeout", 10)
            )
            return {"id": made.account.id}

    # Interceptor.

    def op_serve(self, request):
        verifier = self.objects[request["verifier"]]
        kind = GrpcService if request["transport"] == "grpc" else HttpService
        service = kind(verifier, request)
        self.put(request["id"], service)
        return {"address": service.address}

    def op_call(self, request):
        with grpc.insecure_channel(request["address"]) as channel:
            method = channel.unary_unary(
                request.get("method", CREATE_RESOURCE),
                request_serializer=org_service_pb2.CreateResourceRequest.SerializeToString,
                response_deserializer=org_service_pb2.CreateResourceResponse.FromString,
            )
            metadata = []
            if token := request.get("access_token"):
                metadata.append(("authorization", f"Bearer {token}"))
            message = org_service_pb2.CreateResourceRequest(path=request["path"])
            try:
                resource = method(message, metadata=metadata, timeout=10).resource
            except grpc.RpcError as error:
                raise CountersignError.from_rpc(error) from None
            return {"path": resource.path, "display_name": resource.display_name}


class GrpcService:
    def __init__(self, verifier, request):
        rules = {CREATE_RESOURCE: Rule("reports.write", resource="path")}
        interceptor = Interceptor(verifier, request["audience"], rules, orgs=request.get("orgs"))
        self._server = grpc.server(futures.ThreadPoolExecutor(8), interceptors=[interceptor])
        service = grpc.method_handlers_generic_handler(
            "countersign.v1.OrgService",
            {
                name: grpc.unary_unary_rpc_method_handler(
                    self.create_resource,
                    request_deserializer=org_service_pb2.CreateResourceRequest.FromString,
                    response_serializer=org_service_pb2.CreateResourceResponse.SerializeToString,
                )
                # The second one has no rule.
                for name in ("CreateResource", "UpdateResource")
            },
        )
        self._server.add_generic_rpc_handlers((service,))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    @staticmethod
    def create_resource(request, _context):
        answer = org_service_pb2.CreateResourceResponse()
        answer.resource.path = request.path
        answer.resource.display_name = current_claims().account_id
        return answer

    def close(self):
        self._server.stop(None)


class HttpService:
    def __init__(self, verifier, request):
        app = Middleware(
            answer,
            verifier,
            request["audience"],
            [Route("GET", "/reports/{path:path}", "reports.read", "{path}")],
            orgs=request.get("orgs"),
            public=["/healthz"],
            metadata_url=request.get("metadata_url"),
        )
        config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", lifespan="off")
        self._server = uvicorn.Server(config)
        self._started = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True).start()
        self._started.wait(10)
        self.address = f"127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"

    async def _serve(self):
        serving = asyncio.create_task(self._server.serve())
        while not self._server.started:
            await asyncio.sleep(0.01)
        self._started.set()
        await serving

    def close(self):
        self._server.should_exit = True


async def answer(scope, _receive, send):
    body = {}
    if scope["path"].startswith("/reports/"):
        body = {"path": scope["path"].removeprefix("/reports/"), "sub": scope["countersign"].account_id}
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


def credential_of(given, issuer=None):
    if "secret" in given:
        return Secret(given["secret"])
    if "token_file" in given:
        return TokenFile(given["token_file"])
    if "key_file" in given:
        return Key(given["token_id"], given["key_file"], issuer=issuer)
    if "assertion_file" in given:
        return AssertionFile(given["assertion_file"], given["rule_id"])
    raise CountersignError("NOT_SUPPORTED")


def item_of(given):
    """An item of the stream, from the runner's form of it."""
    item = token_service_pb2.WatchRevocationsResponse()
    if "key_set" in given:
        item.key_set.SetInParent()
        known = token_service_pb2.JsonWebKey.DESCRIPTOR.fields_by_name
        for key in given["key_set"]["keys"]:
            item.key_set.keys.add(**{name: value for name, value in key.items() if name in known})
    elif "checkpoint" in given:
        point = item.checkpoint
        point.cursor = given["checkpoint"]["cursor"]
        point.time.FromNanoseconds(int(given["checkpoint"]["time"] * 1e9))
        point.lag.FromNanoseconds(int(given["checkpoint"]["lag"] * 1e9))
    else:
        fields = dict(given["revocation"])
        until, reason = fields.pop("expire_time", None), fields.pop("reason", None)
        item.revocation.SetInParent()
        if until is not None:
            item.revocation.expire_time.FromNanoseconds(int(until * 1e9))
        if reason is not None:
            item.revocation.reason = error_reason_pb2.ErrorReason.Value(f"ERROR_REASON_{reason}")
        if secret := fields.pop("secret", None):
            item.revocation.secret.token_id, item.revocation.secret.number = secret["token_id"], secret["number"]
        known = item.revocation.DESCRIPTOR.fields_by_name
        for name, value in fields.items():
            if name in known:
                setattr(item.revocation, name, value)
    return item


def described(error):
    found = {"reason": error.reason, "retryable": error.retryable, "message": error.message}
    found["retry_after"] = error.retry_after
    if check := getattr(error, "check", None):
        found["check"] = check
    found["metadata"] = error.metadata
    return found


if __name__ == "__main__":
    Driver().main()
