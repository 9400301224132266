import os

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from countersign import AssertionFile, CountersignError, Key, Secret, TokenFile
from countersign.credentials import is_token

GOOD = "csign_sat_02xEbsg6yCEU5pMibQo2gB_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf_23JG8D"


def test_the_checksum():
    assert is_token(GOOD)
    for wrong in (
        GOOD[:-1],
        GOOD + "0",
        GOOD[:-1] + "q",
        GOOD.replace("sat", "inv"),
        GOOD.replace("2xE", "2xF"),
        "",
        "csign_sat_",
    ):
        assert not is_token(wrong)
    with pytest.raises(ValueError):
        Secret("hello")


def test_nothing_shows_a_secret():
    secret = Secret(GOOD)
    assert GOOD[30:50] not in f"{secret!r} {secret.subject()!r}"


def test_a_file(tmp_path):
    path = tmp_path / "token"
    file = TokenFile(path)
    with pytest.raises(CountersignError) as error:
        file.subject()
    assert (error.value.reason, error.value.retryable) == ("CREDENTIAL_MISSING", True)
    file.write(GOOD)
    assert path.read_text() == GOOD + "\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert file.bearer() == GOOD
    path.write_text("")
    assert file.bearer() == GOOD
    path.unlink()
    assert file.bearer() == GOOD
    with pytest.raises(ValueError):
        file.write("hello")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("make", "algorithm"),
    [
        (ed25519.Ed25519PrivateKey.generate, "EdDSA"),
        (lambda: ec.generate_private_key(ec.SECP256R1()), "ES256"),
        (lambda: rsa.generate_private_key(65537, 2048), "RS256"),
    ],
)
def test_an_assertion(make, algorithm):
    private = make()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    key = Key("tok_1", pem, issuer="https://id.example")
    first, second = key.subject(), key.subject()
    options = {"algorithms": [algorithm], "audience": "https://id.example"}
    claims = jwt.decode(first.token, private.public_key(), **options)
    assert claims["iss"] == claims["sub"] == "tok_1"
    assert claims["aud"] == "https://id.example"
    assert claims["exp"] - claims["iat"] <= 300
    assert claims["jti"] != jwt.decode(second.token, private.public_key(), **options)["jti"]
    assert key.bearer() is None


def test_keys_that_are_refused():
    for private in (ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 1024)):
        with pytest.raises(ValueError):
            Key("tok_1", private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def test_an_assertion_of_another_issuer(tmp_path):
    path = tmp_path / "assertion"
    path.write_text("a.b.c\n")
    file = AssertionFile(path, "fed_1")
    assert (file.subject().token, file.subject().rule_id, file.bearer()) == ("a.b.c", "fed_1", None)
    for wrong in ("", "a.b", "a.b.c.d", "a.b.c!", "a." + "b" * 20_000 + ".c"):
        path.write_text(wrong)
        assert file.subject().token == "a.b.c"
