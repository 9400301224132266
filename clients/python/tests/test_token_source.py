import asyncio
import http.server
import json
import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from test_credentials import GOOD

import grpc
from countersign import AssertionFile, CountersignError, ForkedError, Secret, TokenSource
from countersign.v1 import token_service_pb2


class Endpoint:
    """A token endpoint of the test's own."""

    def __init__(self, delay=0.0):
        self.count = 0
        endpoint = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):  # noqa: N802
                self.rfile.read(int(self.headers["content-length"]))
                endpoint.count += 1
                time.sleep(delay)
                body = json.dumps({"access_token": f"jwt-{endpoint.count}", "token_type": "Bearer", "expires_in": 300})
                self.send_response(200)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_arguments):
                pass

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 128

        self.server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def source(self, **options):
        return TokenSource(self.url, Secret(GOOD), transport="http", **options)


@pytest.fixture
def endpoint():
    made = Endpoint(0.1)
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_a_thousand_threads_at_the_first_use(endpoint):
    with endpoint.source() as source:
        got, barrier = [], threading.Barrier(1000)

        def get():
            barrier.wait()
            got.append(source.get("a"))

        threads = [threading.Thread(target=get) for _ in range(1000)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(got), set(got), endpoint.count) == (1000, {"jwt-1"}, 1)


def test_asyncio(endpoint):
    with endpoint.source() as source:

        async def many():
            return await asyncio.gather(*(source.get_async("a") for _ in range(100)))

        assert set(asyncio.run(many())) == {"jwt-1"}


def test_a_caller_that_gives_up_ends_nothing_for_others(endpoint):
    with endpoint.source() as source:

        async def both():
            with pytest.raises(CountersignError) as error:
                await source.get_async("a", timeout=0.01)
            assert error.value.reason == "UNAVAILABLE"
            return await source.get_async("a")

        assert asyncio.run(both()) == "jwt-1"


def test_a_fork_after_the_first_use(endpoint):
    with endpoint.source() as source:
        source.get()
        context = multiprocessing.get_context("fork")
        queue = context.Queue()

        def child():
            try:
                queue.put(source.get())
            except ForkedError as error:
                queue.put(str(error))

        process = context.Process(target=child)
        process.start()
        assert "forked" in queue.get(timeout=20)
        process.join()


def test_a_fork_before_the_first_use(endpoint):
    with endpoint.source() as source:
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        process = context.Process(target=lambda: queue.put(source.get()))
        process.start()
        assert queue.get(timeout=20) == "jwt-1"
        process.join()
        assert source.get() == "jwt-2"


def test_nothing_in_the_clear():
    for url in (
        "http://id.example",
        "http://10.0.0.1:50052",
        "ftp://id.example",
        "https://id.example/path",
        "id.example",
    ):
        with pytest.raises(ValueError):
            TokenSource(url, Secret(GOOD))
    TokenSource("http://id.example", Secret(GOOD), allow_plaintext=True)
    TokenSource("http://[::1]:8080", Secret(GOOD))


def test_closed(endpoint):
    source = endpoint.source()
    source.get()
    source.close()
    with pytest.raises(RuntimeError):
        source.get()


def test_auth_of_requests_and_httpx(endpoint):
    class Request:
        headers = {}

    with endpoint.source() as source:
        assert source.auth("a")(Request).headers == {"Authorization": "Bearer jwt-1"}


@pytest.fixture
def echo():
    """A gRPC server that answers with the authorization that it was sent."""

    def answer(_request, context):
        return dict(context.invocation_metadata()).get("authorization", "").encode()

    server = grpc.server(ThreadPoolExecutor(2))
    methods = {
        "Unary": grpc.unary_unary_rpc_method_handler(answer),
        "Stream": grpc.unary_stream_rpc_method_handler(lambda request, context: iter([answer(request, context)])),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


def test_an_assertion_goes_with_its_rule_over_grpc(tmp_path):
    asked = []

    def answer(request, _context):
        asked.append((request.subject_token, request.subject_token_type, request.federation_rule_id))
        answer = token_service_pb2.ExchangeTokenResponse(access_token="jwt")
        answer.expire_time.FromSeconds(int(time.time()) + 300)
        return answer

    server = grpc.server(ThreadPoolExecutor(2))
    method = grpc.unary_unary_rpc_method_handler(
        answer,
        request_deserializer=token_service_pb2.ExchangeTokenRequest.FromString,
        response_serializer=token_service_pb2.ExchangeTokenResponse.SerializeToString,
    )
    service = grpc.method_handlers_generic_handler("countersign.v1.TokenService", {"ExchangeToken": method})
    server.add_generic_rpc_handlers((service,))
    url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    path = tmp_path / "assertion"
    path.write_text("a.b.c\n")
    for credential in (AssertionFile(path, "fed_1"), Secret(GOOD)):
        with TokenSource(url, credential) as source:
            assert source.get("a") == "jwt"
    server.stop(None)
    assert asked == [
        ("a.b.c", "urn:ietf:params:oauth:token-type:jwt", "fed_1"),
        (GOOD, "urn:ietf:params:oauth:token-type:access_token", ""),
    ]


def test_the_interceptor(endpoint, echo):
    with endpoint.source() as source, grpc.insecure_channel(echo) as channel:
        channel = grpc.intercept_channel(channel, source.interceptor("a"))
        assert channel.unary_unary("/test.Echo/Unary")(b"") == b"Bearer jwt-1"
        assert list(channel.unary_stream("/test.Echo/Stream")(b"")) == [b"Bearer jwt-1"]


def test_the_interceptors_of_asyncio(endpoint, echo):
    with endpoint.source() as source:

        async def call():
            async with grpc.aio.insecure_channel(echo, interceptors=source.aio_interceptors("a")) as channel:
                one = await channel.unary_unary("/test.Echo/Unary")(b"")
                return one, [each async for each in channel.unary_stream("/test.Echo/Stream")(b"")]

        assert asyncio.run(call()) == (b"Bearer jwt-1", [b"Bearer jwt-1"])


def test_call_credentials(endpoint):
    """As gRPC's core uses them: from another thread, with a callback."""
    from countersign.token_source import _Plugin

    with endpoint.source() as source:
        for _ in range(2):
            got, done = [], threading.Event()
            _Plugin(source, ("a",), ())(None, lambda metadata, error: (got.append((metadata, error)), done.set()))
            assert done.wait(10)
            assert got == [((("authorization", "Bearer jwt-1"),), None)]
        assert source.call_credentials("a") is not None
