import asyncio
import multiprocessing
import threading

import pytest

from conftest import AUDIENCE, ISSUER, checkpoint, revoked
from countersign import ForkedError, VerificationError, Verifier


def test_a_thousand_threads_at_the_first_use(issuer):
    verifier, jwt, got, barrier = issuer.verifier(), issuer.jwt(), [], threading.Barrier(1000)

    def verify():
        barrier.wait()
        got.append(verifier.verify(jwt, AUDIENCE).account_id)

    threads = [threading.Thread(target=verify) for _ in range(1000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == ["acct_1"] * 1000


def test_a_fork_after_the_first_use(issuer):
    verifier, jwt = issuer.verifier(), issuer.jwt()
    verifier.verify(jwt, AUDIENCE)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()

    def child():
        try:
            queue.put(verifier.verify(jwt, AUDIENCE))
        except ForkedError as error:
            queue.put(str(error))

    process = context.Process(target=child)
    process.start()
    assert "forked" in queue.get(timeout=20)
    process.join()


def test_what_is_kept_is_bounded(issuer):
    verifier, jwt = issuer.verifier(max_revocations=100), issuer.jwt()
    for number in range(100):
        verifier.feed(revoked(token_id=f"tok_x{number}"))
    verifier.verify(jwt, AUDIENCE)
    verifier.feed(revoked(token_id="tok_x1"))
    verifier.verify(jwt, AUDIENCE)
    verifier.feed(revoked(token_id="tok_more"))
    verifier.feed(checkpoint())
    with pytest.raises(VerificationError) as error:
        verifier.verify(jwt, AUDIENCE)
    assert error.value.reason == "VERIFIER_STALE"
    assert not verifier.fresh


def test_what_is_refused_when_it_is_made():
    for options in ({"open_for": 3601}, {"open_for": 5}, {"revocation": "sometimes"}):
        with pytest.raises(ValueError):
            Verifier.offline(ISSUER, **options)
    with pytest.raises(ValueError):
        Verifier("https://id.example", None, ISSUER)


def test_asyncio(issuer):
    verifier, jwt = issuer.verifier(), issuer.jwt()
    assert asyncio.run(verifier.verify_async(jwt, AUDIENCE, "org_1")).org_id == "org_1"
    with pytest.raises(VerificationError) as error:
        asyncio.run(verifier.verify_async(jwt, AUDIENCE, "org_2"))
    assert error.value.check == "org"


def test_no_server(issuer):
    """The first verification waits a while, and says then what is the matter."""
    import countersign.verifier as module

    verifier = Verifier(
        "http://127.0.0.1:1",
        "csign_sat_02xEbsg6yCEU5pMibQo2gB_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf_23JG8D",
        ISSUER,
    )
    before, module.FIRST_WAIT = module.FIRST_WAIT, 0.3
    try:
        with pytest.raises(VerificationError) as error:
            verifier.verify(issuer.jwt(), AUDIENCE)
        assert (error.value.reason, error.value.retryable) == ("VERIFIER_STALE", True)
        assert not verifier.wait_until_ready(0.1)
        assert verifier.last_error is not None and verifier.last_error.retryable
    finally:
        module.FIRST_WAIT = before
        verifier.close()
    with pytest.raises(RuntimeError):
        Verifier.offline(ISSUER).close() or _closed().verify("x", AUDIENCE)


def _closed():
    verifier = Verifier.offline(ISSUER)
    verifier.close()
    return verifier


def test_the_claims(issuer):
    claims = issuer.verifier().verify(issuer.jwt(scope="a.read a.write"), AUDIENCE)
    assert (claims.scopes, claims.client_id, claims.allows("a.write")) == (("a.read", "a.write"), "tok_1", True)
    assert claims.expire_time == claims.raw["exp"]
    assert "acct_1" in repr(claims)


def of_rule(issuer, **changes):
    return issuer.jwt(**{"client_id": "fed_1", "token_kind": "FEDERATED", "rule_ver": 3, "secret": ...} | changes)


def test_a_rule_has_its_version(issuer):
    verifier = issuer.verifier()
    assert verifier.verify(of_rule(issuer), AUDIENCE).raw["rule_ver"] == 3
    wrong = [of_rule(issuer, rule_ver=version) for version in (..., None, 0, -1, 1.5, "1", True)]
    wrong += [of_rule(issuer, secret=1), of_rule(issuer, secret=1, rule_ver=...)]
    wrong += [issuer.jwt(rule_ver=1), issuer.jwt(rule_ver=1, secret=...), issuer.jwt(client_id="ses_1")]
    wrong += [issuer.jwt(client_id="key_1", secret=...), issuer.jwt(client_id="key_1")]
    for jwt in wrong:
        with pytest.raises(VerificationError) as error:
            verifier.verify(jwt, AUDIENCE)
        assert error.value.check == "claims"


def test_a_rule_ends_up_to_a_version_or_for_good(issuer):
    verifier = issuer.verifier()

    def refused(version):
        with pytest.raises(VerificationError) as error:
            verifier.verify(of_rule(issuer, rule_ver=version), AUDIENCE)
        return error.value.reason, error.value.check

    verifier.feed(revoked(rule_id="fed_2"))
    verifier.feed(revoked(rule_id="fed_1", org_id="org_2", min_version=4))
    verifier.feed(revoked(rule_id="fed_1", min_version=3))
    assert refused(3) == ("ACCESS_TOKEN_STALE", "rule_version")
    verifier.verify(of_rule(issuer, rule_ver=4), AUDIENCE)
    verifier.feed(revoked(rule_id="fed_1"))
    verifier.feed(revoked(rule_id="fed_1", min_version=5))
    for version in (1, 4, 5, 99):
        assert refused(version) == ("TOKEN_REVOKED", "rule")
    verifier.verify(issuer.jwt(), AUDIENCE)
