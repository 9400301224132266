import datetime
from concurrent.futures import ThreadPoolExecutor

import pytest
from google.rpc import error_details_pb2, status_pb2

import grpc
from countersign import Client, CountersignError
from countersign._call import Backoff
from countersign.v1 import account_service_pb2, token_service_pb2, tokens_pb2


class Server:
    """Answers as a test says, and keeps what it was asked."""

    def __init__(self):
        self.calls, self.answers = [], []
        self.server = grpc.server(ThreadPoolExecutor(4))
        self.server.add_generic_rpc_handlers((self,))
        self.url = f"http://127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def service(self, details):
        def answer(request, context):
            self.calls.append((details.method, request, dict(context.invocation_metadata())))
            answer = self.answers.pop(0)
            if isinstance(answer, str):
                status = status_pb2.Status()
                status.details.add().Pack(error_details_pb2.ErrorInfo(domain="countersign", reason=answer))
                context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
                context.abort(grpc.StatusCode.UNAVAILABLE, "no")
            return answer.SerializeToString()

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture
def server():
    made = Server()
    yield made
    made.server.stop(None)


def test_a_create_is_repeated_with_one_request_id(server):
    made = account_service_pb2.CreateServiceAccountResponse()
    made.account.id = "acct_1"
    server.answers = ["DATABASE_UNAVAILABLE", "DATABASE_UNAVAILABLE", made]
    with Client(server.url, None, org_id="org_1") as client:
        grants = [{"permission": "a.read", "resource": "*"}]
        assert client.accounts.create_service_account(name="x", grants=grants).account.id == "acct_1"
    requests = [account_service_pb2.CreateServiceAccountRequest.FromString(request) for _, request, _ in server.calls]
    assert len(requests) == 3 and len({request.request_id for request in requests}) == 1
    assert len(requests[0].request_id) == 36
    assert (requests[0].org_id, requests[0].grants[0].permission) == ("org_1", "a.read")


def test_a_request_id_of_the_caller_stays(server):
    server.answers = [token_service_pb2.CreateTokenResponse()]
    with Client(server.url, None) as client:
        client.tokens.create_token(request_id="mine", ttl=datetime.timedelta(days=1, microseconds=5))
    request = token_service_pb2.CreateTokenRequest.FromString(server.calls[0][1])
    assert (request.request_id, request.ttl.seconds, request.ttl.nanos) == ("mine", 86400, 5000)


def test_what_may_have_been_done_is_not_repeated(server):
    server.answers = ["DATABASE_UNAVAILABLE"]
    with Client(server.url, None) as client, pytest.raises(CountersignError) as error:
        client.tokens.revoke_token(token_id="tok_1")
    assert (error.value.reason, len(server.calls)) == ("DATABASE_UNAVAILABLE", 1)


def test_what_was_not_done_is_repeated(server):
    server.answers = ["OVERLOADED", token_service_pb2.RevokeTokenResponse()]
    with Client(server.url, None) as client:
        client.tokens.revoke_token(token_id="tok_1")
    assert len(server.calls) == 2


def test_the_time_is_bounded(server):
    server.answers = ["OVERLOADED"] * 1000
    with Client(server.url, None) as client, pytest.raises(CountersignError):
        client.tokens.get_token(token_id="tok_1", timeout=0.5)
    assert len(server.calls) < 10


def page(following, *ids):
    answer = token_service_pb2.ListTokensResponse(next_page_token=following)
    for name in ids:
        answer.tokens.add(id=name)
    return answer


def test_pages(server):
    with Client(server.url, None) as client:
        server.answers = [page("2", "a", "b"), page("3"), page("", "c")]
        found = client.tokens.list_tokens(state="TOKEN_STATE_ACTIVE", idle_since=datetime.datetime.now(datetime.UTC))
        assert [token.id for token in found] == ["a", "b", "c"]
        requests = [token_service_pb2.ListTokensRequest.FromString(request) for _, request, _ in server.calls]
        assert [request.page_token for request in requests] == ["", "2", "3"]
        assert {request.state for request in requests} == {tokens_pb2.TOKEN_STATE_ACTIVE}
        # Only what is asked for is called.
        server.answers = [page("2", "a")]
        assert next(iter(client.tokens.list_tokens())).id == "a"
        # The same page for ever.
        server.answers = [page("x", "a")] * 3
        with pytest.raises(CountersignError):
            list(client.tokens.list_tokens())


def test_a_request_or_its_fields(server):
    with Client(server.url, None) as client:
        with pytest.raises(TypeError):
            client.tokens.get_token(token_service_pb2.GetTokenRequest(), token_id="x")
        with pytest.raises(ValueError):
            client.tokens.list_tokens(idle_since=datetime.datetime(2026, 1, 1))
        with pytest.raises(ValueError):
            client.tokens.get_token(no_such_field=1)


def test_the_bearer(server):
    server.answers = [token_service_pb2.GetTokenResponse()]
    secret = "csign_sat_02xEbsg6yCEU5pMibQo2gB_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf_23JG8D"
    with Client(server.url, secret) as client:
        client.tokens.get_token(token_id="x")
    assert server.calls[0][2]["authorization"] == f"Bearer {secret}"


def test_the_wait():
    backoff = Backoff(0.1, 30)
    waits = [backoff.next() for _ in range(2000)]
    assert 0 < waits[0] <= 0.1 and all(0 < wait <= 30 for wait in waits)
    asked = CountersignError("THROTTLED", retry_after=60.0)
    assert Backoff(0.1, 30).next(asked) >= 60
