import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from google.protobuf.wrappers_pb2 import StringValue

import grpc
from conftest import AUDIENCE, revoked
from countersign import AioInterceptor, CountersignError, Interceptor, Rule, current_claims

KINDS = {
    "UnaryUnary": (False, False),
    "UnaryStream": (False, True),
    "StreamUnary": (True, False),
    "StreamStream": (True, True),
}
RULES = {f"/test.Echo/{kind}": Rule("a.write", resource="value") for kind in KINDS} | {
    "/test.Echo/Org": Rule("a.read", org="value"),
    "/test.Echo/Whole": Rule("a.read"),
}
DETAILS = [{"type": "countersign_grant", "identifier": "x", "actions": ["a.write"]}]


def whom(text):
    return StringValue(value=f"{current_claims().account_id} {text}")


class Echo:
    """Answers each message with the account that asks."""

    def unary(self, request, _context):
        return whom(request.value)

    def many(self, request, _context):
        for number in range(3):
            yield whom(f"{request.value}{number}")

    def collect(self, requests, _context):
        return whom(",".join([request.value for request in requests]))

    def relay(self, requests, _context):
        for request in requests:
            yield whom(request.value)


class AioEcho:
    async def unary(self, request, _context):
        return whom(request.value)

    async def many(self, request, _context):
        for number in range(3):
            yield whom(f"{request.value}{number}")

    async def collect(self, requests, _context):
        return whom(",".join([request.value async for request in requests]))

    async def relay(self, requests, _context):
        async for request in requests:
            yield whom(request.value)


def handlers(echo):
    coding = {"request_deserializer": StringValue.FromString, "response_serializer": StringValue.SerializeToString}
    unary = grpc.unary_unary_rpc_method_handler(echo.unary, **coding)
    methods = {
        "UnaryUnary": unary,
        "UnaryStream": grpc.unary_stream_rpc_method_handler(echo.many, **coding),
        "StreamUnary": grpc.stream_unary_rpc_method_handler(echo.collect, **coding),
        "StreamStream": grpc.stream_stream_rpc_method_handler(echo.relay, **coding),
        "Org": unary,
        "Whole": unary,
        "NoRule": unary,
    }
    return (grpc.method_handlers_generic_handler("test.Echo", methods),)


@pytest.fixture
def server(issuer):
    verifier = issuer.verifier()
    server = grpc.server(ThreadPoolExecutor(4), interceptors=[Interceptor(verifier, AUDIENCE, RULES)])
    server.add_generic_rpc_handlers(handlers(Echo()))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield verifier, channel
    server.stop(None)


def call(channel, name, values, metadata=()):
    """What a method answers, whichever kind it is."""
    streams_in, streams_out = KINDS.get(name, (False, False))
    kind = f"{'stream' if streams_in else 'unary'}_{'stream' if streams_out else 'unary'}"
    method = getattr(channel, kind)(
        f"/test.Echo/{name}",
        request_serializer=StringValue.SerializeToString,
        response_deserializer=StringValue.FromString,
    )
    messages = [StringValue(value=value) for value in values]
    try:
        answer = method(iter(messages) if streams_in else messages[0], metadata=metadata, timeout=10)
        return [each.value for each in answer] if streams_out else [answer.value]
    except grpc.RpcError as error:
        raise CountersignError.from_rpc(error) from None


def bearer(jwt):
    return (("authorization", f"Bearer {jwt}"),)


def reason_of(*arguments):
    with pytest.raises(CountersignError) as error:
        call(*arguments)
    return error.value.reason


def test_every_kind_of_method(server, issuer):
    verifier, channel = server
    good = bearer(issuer.jwt(authorization_details=DETAILS))
    assert call(channel, "UnaryUnary", ["x"], good) == ["acct_1 x"]
    assert call(channel, "UnaryStream", ["x/y"], good) == ["acct_1 x/y0", "acct_1 x/y1", "acct_1 x/y2"]
    assert call(channel, "StreamUnary", ["x/1", "x/2"], good) == ["acct_1 x/1,x/2"]
    assert call(channel, "StreamStream", ["x/1", "x/2"], good) == ["acct_1 x/1", "acct_1 x/2"]
    for kind in KINDS:
        assert reason_of(channel, kind, ["z"], good) == "PERMISSION_MISSING"
        assert reason_of(channel, kind, ["x"]) == "CREDENTIAL_MISSING"
        assert reason_of(channel, kind, ["x"], bearer("nonsense")) == "ACCESS_TOKEN_INVALID"
    # Each message of a stream is checked.
    assert reason_of(channel, "StreamStream", ["x/1", "z"], good) == "PERMISSION_MISSING"
    assert reason_of(channel, "StreamUnary", ["x/1", "z"], good) == "PERMISSION_MISSING"
    # An empty resource is the whole org, and not every resource.
    assert reason_of(channel, "UnaryUnary", [""], good) == "PERMISSION_MISSING"
    verifier.feed(revoked(token_id="tok_1"))
    assert reason_of(channel, "UnaryUnary", ["x"], good) == "TOKEN_REVOKED"


def test_rules(server, issuer):
    _, channel = server
    good = bearer(issuer.jwt())
    assert call(channel, "Whole", ["anything"], good) == ["acct_1 anything"]
    assert call(channel, "Org", ["org_1"], good) == ["acct_1 org_1"]
    assert reason_of(channel, "Org", ["org_2"], good) == "RESOURCE_NOT_FOUND"
    assert reason_of(channel, "Org", [""], good) == "RESOURCE_NOT_FOUND"
    assert reason_of(channel, "NoRule", ["x"], good) == "PERMISSION_MISSING"


def test_credentials(server, issuer):
    _, channel = server
    jwt = issuer.jwt()
    for metadata in (
        (("authorization", f"Basic {jwt}"),),
        (("authorization", jwt),),
        (("authorization", "Bearer "),),
        (*bearer(jwt), *bearer(jwt)),
    ):
        assert reason_of(channel, "Whole", ["x"], metadata) == "CREDENTIAL_MISSING"
    assert call(channel, "Whole", ["x"], (("authorization", f"bearer {jwt}"),)) == ["acct_1 x"]


def test_outside_of_a_call():
    with pytest.raises(LookupError):
        current_claims()


def test_asyncio(issuer):
    async def run():
        server = grpc.aio.server(interceptors=[AioInterceptor(issuer.verifier(), AUDIENCE, RULES)])
        server.add_generic_rpc_handlers(handlers(AioEcho()))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            return await asyncio.to_thread(calls, f"127.0.0.1:{port}")
        finally:
            await server.stop(None)

    def calls(address):
        good = bearer(issuer.jwt(authorization_details=DETAILS))
        with grpc.insecure_channel(address) as channel:
            assert call(channel, "UnaryUnary", ["x"], good) == ["acct_1 x"]
            assert call(channel, "UnaryStream", ["x"], good) == ["acct_1 x0", "acct_1 x1", "acct_1 x2"]
            assert call(channel, "StreamUnary", ["x/1", "x/2"], good) == ["acct_1 x/1,x/2"]
            assert call(channel, "StreamStream", ["x/1", "x/2"], good) == ["acct_1 x/1", "acct_1 x/2"]
            for kind in KINDS:
                assert reason_of(channel, kind, ["z"], good) == "PERMISSION_MISSING"
                assert reason_of(channel, kind, ["x"]) == "CREDENTIAL_MISSING"
            assert reason_of(channel, "StreamStream", ["x/1", "z"], good) == "PERMISSION_MISSING"
            assert reason_of(channel, "NoRule", ["x"], good) == "PERMISSION_MISSING"

    asyncio.run(run())
